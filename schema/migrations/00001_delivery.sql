-- +goose NO TRANSACTION
-- +goose Up

-- One row for each delivery that did not end at its first try. due_at is the time of visibility: pending = when to try,
-- leased = when the lease runs out, ended = NULL.
CREATE TABLE IF NOT EXISTS webhook_dispatcher_delivery (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  webhook_id  BINARY(16) NOT NULL,
  kind        TINYINT UNSIGNED NOT NULL,      -- 1 webhook, 2 event awaiting its filters, 3 inbox item
  rule_id     INT NOT NULL,                   -- for kind 3 the number of the shop
  state       TINYINT UNSIGNED NOT NULL,      -- 0 pending, 1 leased, 2 delivered, 3 dead, 4 halted
  due_at      DATETIME(3) NULL,
  lease_token BINARY(16) NULL,
  claims      SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  attempts    SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  reason      VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  last_status SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  event_type  VARCHAR(191) NOT NULL,
  event_id    VARCHAR(191) NOT NULL,
  event_time  DATETIME(6) NULL,
  body_format TINYINT UNSIGNED NOT NULL,      -- 1 JSON, 2 form, 3 event, 4 CloudEvents
  body_size   INT UNSIGNED NOT NULL,          -- bytes of body as stored, so that a sum needs the index alone
  body        MEDIUMBLOB NOT NULL,            -- one for each delivery: shapes differ, and a shared body would need counting
  traceparent VARCHAR(55) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  created_at  DATETIME(3) NOT NULL,
  updated_at  DATETIME(3) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uq_webhook_id (webhook_id),
  KEY ix_claim (kind, rule_id, due_at, body_size),
  KEY ix_state (state, updated_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
