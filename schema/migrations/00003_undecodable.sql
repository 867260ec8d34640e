-- +goose NO TRANSACTION
-- +goose Up

-- Records of the bus that can never be read. A topic that was deleted and made again counts its offsets anew: the
-- record's time keeps the two apart.
CREATE TABLE IF NOT EXISTS webhook_dispatcher_undecodable (
  id            BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  topic         VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  partition_id  INT NOT NULL,
  record_offset BIGINT NOT NULL,
  record_time   DATETIME(3) NOT NULL,
  reason        VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  headers       MEDIUMBLOB NOT NULL,          -- JSON: [{"key": …, "value": base64}]
  record_key    BLOB NULL,
  record_value  MEDIUMBLOB NULL,
  value_size    INT UNSIGNED NOT NULL,        -- bytes on the bus; larger than record_value where that was cut
  created_at    DATETIME(3) NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uq_record (topic, partition_id, record_offset, record_time),
  KEY ix_reason (reason, id),
  KEY ix_created (created_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
