package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// PauseRule pauses a lane's rule and stores the reason in the lane's record. It reports whether it
// did: not if the rule was paused or is gone, and only to one of several concurrent callers. Other
// options of the rule stay; those of a former rule with the same id are dropped.
func (s *Store) PauseRule(ctx context.Context, lane delivery.Lane, reason delivery.Reason) (paused bool, err error) {
	key, is := rule.KeyOf(lane)
	if !is {
		return false, fmt.Errorf("pause: a queue of kind %s has no rule", lane.Kind)
	}
	paused, err = s.changeOption(ctx, "pause "+key.String(), key, func(tx *sql.Tx, _ rule.Row, o *rule.Option) error {
		if !o.PausedAt.IsZero() {
			return nil
		}
		if err := tx.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(3)").Scan(&o.PausedAt); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_lane (kind, rule_id, pause_reason) VALUES (?, ?, ?)
  ON DUPLICATE KEY UPDATE pause_reason = ?`, uint8(lane.Kind), lane.RuleID, string(reason), string(reason))
		return err
	})
	if isNoRule(err) {
		return false, nil
	}
	return paused, err
}

// ResumeRule ends a rule's pause and clears its failing mark, which restarts the time until the
// next pause. It reports whether the rule was paused; a missing rule was not.
func (s *Store) ResumeRule(ctx context.Context, key rule.Key) (resumed bool, err error) {
	resumed, err = s.changeOption(ctx, "resume "+key.String(), key, func(tx *sql.Tx, _ rule.Row, o *rule.Option) error {
		o.PausedAt = time.Time{}
		_, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_lane SET failing_since = NULL, pause_reason = ''
  WHERE kind = ? AND rule_id = ?`, uint8(key.Table), key.ID)
		return err
	})
	if isNoRule(err) {
		return false, nil
	}
	return resumed, err
}
