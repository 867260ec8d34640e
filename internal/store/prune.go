package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// PruneAttempts deletes up to limit (at most 500, to keep locks few) attempts older than age,
// oldest first, and returns how many. Fewer than limit means that none remain.
func (s *Store) PruneAttempts(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.exec(ctx, "prune attempts", `DELETE FROM webhook_dispatcher_attempt
  WHERE at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY at LIMIT ?`, micros(age), max(0, min(limit, maxRows)))
}

// PruneEnded deletes up to limit (at most 500) rows that ended in state longer than age ago, oldest
// first, and returns how many. Fewer than limit means that none remain, except locked ones.
func (s *Store) PruneEnded(ctx context.Context, state delivery.State, age time.Duration, limit int) (int, error) {
	if !state.Ended() {
		return 0, fmt.Errorf("prune %s rows: they have not ended", state)
	}
	return s.old(ctx, fmt.Sprintf("prune %s rows", state), state, age, limit, func(tx *sql.Tx, ids []any) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM webhook_dispatcher_delivery WHERE id IN "+list(len(ids)), ids...)
		return err
	})
}

// PruneUndecodable does for undecodable records what PruneAttempts does for attempts.
func (s *Store) PruneUndecodable(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.exec(ctx, "prune undecodable records", `DELETE FROM webhook_dispatcher_undecodable
  WHERE created_at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY created_at LIMIT ?`,
		micros(age), max(0, min(limit, maxRows)))
}

// Expire dead-letters up to limit (at most 500) pending rows that have not changed for longer than
// age because their rule is disabled or paused, and returns how many. Fewer than limit means that
// none remain, except locked ones.
//
// Attempts and deferrals by the endpoint are changes, so age does not end rows that are tried. The
// age since creation would, but also an old row that was just replayed. An endpoint that only
// defers eventually gets its rule paused, and then its rows no longer change.
func (s *Store) Expire(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.old(ctx, "expire rows", delivery.Pending, age, limit, func(tx *sql.Tx, ids []any) error {
		_, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = ?, due_at = NULL, reason = ?, updated_at = UTC_TIMESTAMP(3)
  WHERE id IN `+list(len(ids)), append([]any{uint8(delivery.Dead), string(delivery.ReasonExpired)}, ids...)...)
		return err
	})
}

// old locks up to limit (at most 500) rows that have not changed in state for longer than age,
// oldest first, and calls act in the same transaction. It skips locked rows, and returns how many
// it found.
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
