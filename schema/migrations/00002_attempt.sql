-- +goose NO TRANSACTION
-- +goose Up

-- The attempt log: one row for each request that is worth remembering.
CREATE TABLE IF NOT EXISTS webhook_dispatcher_attempt (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  webhook_id  BINARY(16) NOT NULL,
  kind        TINYINT UNSIGNED NOT NULL,
  rule_id     INT NOT NULL,
  number      SMALLINT UNSIGNED NOT NULL,
  at          DATETIME(3) NOT NULL,
  duration_ms INT UNSIGNED NOT NULL,
  status      SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  error_class VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  event_type  VARCHAR(191) NOT NULL,
  response    VARBINARY(4096) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY ix_webhook (webhook_id, id),
  KEY ix_rule (kind, rule_id, id),
  KEY ix_at (at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
