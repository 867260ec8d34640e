-- +goose NO TRANSACTION
-- +goose Up

-- What replicas share about a lane, the queue of one rule's deliveries: since when its endpoint has taken nothing from any of them, and how
-- much waits, as one of them measured it. Kind 0 is no lane: rule_id 0 marks the time of the newest measurement, and another
-- rule_id counts the rows of the state with this number.
CREATE TABLE IF NOT EXISTS webhook_dispatcher_lane (
  kind          TINYINT UNSIGNED NOT NULL,
  rule_id       INT NOT NULL,
  failing_since DATETIME(3) NULL,
  pause_reason  VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '', -- of a rule that the dispatcher paused itself
  waiting_rows  INT UNSIGNED NOT NULL DEFAULT 0,                                       -- pending and leased
  waiting_bytes BIGINT UNSIGNED NOT NULL DEFAULT 0,
  oldest_due    DATETIME(3) NULL,
  measured_at   DATETIME(3) NULL,
  PRIMARY KEY (kind, rule_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
