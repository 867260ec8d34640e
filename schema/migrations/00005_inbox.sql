-- +goose NO TRANSACTION
-- +goose Up

-- Inbound webhooks. external_id is set only once the checks have passed, so that a forged order number blocks no real one.
CREATE TABLE IF NOT EXISTS webhook_dispatcher_inbox (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  source      VARCHAR(64) NOT NULL,
  external_id VARCHAR(191) NULL,
  state       TINYINT UNSIGNED NOT NULL,
  client      VARBINARY(16) NOT NULL,
  headers     MEDIUMBLOB NOT NULL,
  body        MEDIUMBLOB NOT NULL,
  received_at DATETIME(6) NOT NULL,
  updated_at  DATETIME(3) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uq_order (source, external_id),
  KEY ix_state (state, updated_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
