-- +goose NO TRANSACTION
-- +goose Up

-- What the plugin's tables have no column for, by the rule that it belongs to.
CREATE TABLE IF NOT EXISTS webhook_dispatcher_rule_option (
  kind         TINYINT UNSIGNED NOT NULL,
  rule_id      INT NOT NULL,
  enabled      BOOL NOT NULL DEFAULT 1,
  adopted_at   DATETIME(6) NULL,
  released_at  DATETIME(6) NULL,
  paused_at    DATETIME(3) NULL,
  rule_created DATETIME(6) NOT NULL,
  url_sha256   BINARY(32) NOT NULL,
  options      MEDIUMTEXT NOT NULL,
  secrets      BLOB NULL,
  key_id       VARCHAR(32) NOT NULL DEFAULT '',
  version      INT UNSIGNED NOT NULL DEFAULT 1,
  updated_at   DATETIME(6) NOT NULL,
  PRIMARY KEY (kind, rule_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
