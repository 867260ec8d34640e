package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Topics returns the topics that a consumer group has been configured with, and for each whether
// its partitions without a committed position are read from their beginning: the topic was once
// absent, or has had its first positions.
func (s *Store) Topics(ctx context.Context, group string) (map[string]bool, error) {
	type seen struct {
		topic  string
		absent bool
	}
	rows, err := s.db.QueryContext(ctx, "SELECT topic, absent FROM webhook_dispatcher_topic WHERE group_id = ?", group)
	all, err := collect(rows, err, func(rows *sql.Rows, t *seen) error { return rows.Scan(&t.topic, &t.absent) })
	if err != nil {
		return nil, fmt.Errorf("read topics of group %q: %w", group, clean(err))
	}
	topics := make(map[string]bool, len(all))
	for _, t := range all {
		topics[t.topic] = t.absent
	}
	return topics, nil
}

// RememberTopic records a topic of a group; absent means that partitions without a position are
// read from their beginning. Records are permanent.
func (s *Store) RememberTopic(ctx context.Context, group, topic string, absent bool) error {
	change := "topic = topic"
	if absent {
		change = "absent = TRUE"
	}
	_, err := s.exec(ctx, fmt.Sprintf("remember topic %q of group %q", topic, group), `INSERT INTO webhook_dispatcher_topic
  (group_id, topic, absent, first_seen) VALUES (?, ?, ?, UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE `+change, group, topic, absent)
	return err
}
