-- +goose NO TRANSACTION
-- +goose Up

-- The topics that a consumer group has been configured with. One that was absent once is read from its beginning.
CREATE TABLE IF NOT EXISTS webhook_dispatcher_topic (
  group_id   VARCHAR(255) NOT NULL,
  topic      VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  absent     BOOL NOT NULL,
  first_seen DATETIME(3) NOT NULL,
  PRIMARY KEY (group_id, topic)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
