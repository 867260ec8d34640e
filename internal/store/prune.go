package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// PruneAttempts deletes up to limit attempts older than age, the oldest first, and returns how many. Fewer than limit means that none is
// left. limit is capped at 500, so that no statement holds many locks.
func (s *Store) PruneAttempts(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.exec(ctx, "prune attempts", `DELETE FROM webhook_dispatcher_attempt
  WHERE at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY at LIMIT ?`, micros(age), max(0, min(limit, maxRows)))
}

// PruneEnded deletes up to limit rows that ended in state longer than age ago, the oldest first, and returns how many.
// Fewer than limit means that none is left but what others hold. limit is capped at 500.
func (s *Store) PruneEnded(ctx context.Context, state delivery.State, age time.Duration, limit int) (int, error) {
	if !state.Ended() {
		return 0, fmt.Errorf("prune %s rows: they have not ended", state)
	}
	return s.old(ctx, fmt.Sprintf("prune %s rows", state), state, age, limit, func(tx *sql.Tx, ids []any) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM webhook_dispatcher_delivery WHERE id IN "+list(len(ids)), ids...)
		return err
	})
}

// PruneUndecodable deletes up to limit undecodable records kept longer than age, and returns how many. Fewer than limit means
// that none is left. limit is capped at 500.
func (s *Store) PruneUndecodable(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.exec(ctx, "prune undecodable records", `DELETE FROM webhook_dispatcher_undecodable
  WHERE created_at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY created_at LIMIT ?`,
		micros(age), max(0, min(limit, maxRows)))
}

// Expire makes up to limit pending rows dead that nothing has touched for longer than age, and returns how many: their rule is
// disabled or paused. Fewer than limit means that none is left but what others hold. limit is capped at 500.
//
// A row that is tried is touched, and so is one that its endpoint puts off without an attempt that counts; no age ends these. The
// time since a row was made would, but a replay leaves it: an old row replayed would be dead again before its first try. An endpoint
// that only ever puts off has its rule paused in the end, and then nothing touches its rows any more.
func (s *Store) Expire(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.old(ctx, "expire rows", delivery.Pending, age, limit, func(tx *sql.Tx, ids []any) error {
		_, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = ?, due_at = NULL, reason = ?, updated_at = UTC_TIMESTAMP(3)
  WHERE id IN `+list(len(ids)), append([]any{uint8(delivery.Dead), string(delivery.ReasonExpired)}, ids...)...)
		return err
	})
}

// old locks up to limit rows, capped at 500, that nothing has changed in state for longer than age, the oldest first, and has
// act deal with them in the same transaction. Rows that others hold are passed over. It returns how many there were.
func (s *Store) old(
	ctx context.Context, what string, state delivery.State, age time.Duration, limit int, act func(tx *sql.Tx, ids []any) error,
) (found int, err error) {
	if limit = min(limit, maxRows); limit <= 0 {
		return 0, nil
	}
	err = s.transaction(ctx, what, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (ix_state)
  WHERE state = ? AND updated_at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY updated_at LIMIT ? FOR UPDATE SKIP LOCKED`,
			uint8(state), micros(age), limit)
		ids, err := collect(rows, err, scanID)
		found = len(ids)
		if err != nil || found == 0 {
			return err
		}
		return act(tx, ids)
	})
	if err != nil {
		return 0, err
	}
	return found, nil
}
