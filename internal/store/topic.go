package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Topics returns the topics that a consumer group has been configured with so far, and for each
// whether its partitions without a committed position are read from their beginning: it was absent
// once, or it has had its first positions.
func (s *Store) Topics(ctx context.Context, group string) (map[string]bool, error) {
	topics := make(map[string]bool)
	_, err := read(ctx, s, fmt.Sprintf("read topics of group %q", group), func(rows *sql.Rows, topic *string) error {
		var absent bool
		err := rows.Scan(topic, &absent)
		topics[*topic] = absent
		return err
	}, "SELECT topic, absent FROM webhook_dispatcher_topic WHERE group_id = ?", group)
	if err != nil {
		return nil, err
	}
	return topics, nil
}

// RememberTopic notes a topic of a group and, with absent, that its partitions without a position
// are read from their beginning. What was noted once stays.
func (s *Store) RememberTopic(ctx context.Context, group, topic string, absent bool) error {
	change := "topic = topic"
	if absent {
		change = "absent = TRUE"
	}
	_, err := s.exec(ctx, fmt.Sprintf("remember topic %q of group %q", topic, group), `INSERT INTO webhook_dispatcher_topic
  (group_id, topic, absent, first_seen) VALUES (?, ?, ?, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE `+change, group, topic, absent)
	return err
}
