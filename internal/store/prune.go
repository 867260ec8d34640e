package store

import (
	"context"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// PruneAttempts deletes up to limit attempts older than age, the oldest first, and returns how
// many. Fewer than limit means that none is left. limit is capped at 500.
func (s *Store) PruneAttempts(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.exec(ctx, "prune attempts", `DELETE FROM webhook_dispatcher_attempt
  WHERE at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY at LIMIT ?`, micros(age), capped(limit))
}

// PruneUndecodable is PruneAttempts for undecodable records.
func (s *Store) PruneUndecodable(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.exec(ctx, "prune undecodable records", `DELETE FROM webhook_dispatcher_undecodable
  WHERE created_at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY created_at LIMIT ?`, micros(age), capped(limit))
}

// PruneEnded is PruneAttempts for rows that ended in state longer than age ago. Rows that others
// hold are skipped, and may be left.
func (s *Store) PruneEnded(ctx context.Context, state delivery.State, age time.Duration, limit int) (int, error) {
	if !state.Ended() {
		return 0, fmt.Errorf("prune %s rows: they have not ended", state)
	}
	return s.changeFound(ctx, fmt.Sprintf("prune %s rows", state), old(state, age, limit),
		statement{"DELETE FROM webhook_dispatcher_delivery WHERE id IN ", nil})
}

// Expire makes up to limit pending rows dead that nothing has changed for longer than age, and
// returns how many: their rule is disabled or paused. Fewer than limit means that only those are
// left that others hold. limit is capped at 500.
//
// An attempt changes a row, and so does an endpoint that puts it off; no age ends such rows. The
// age since a row was made would, but an old row that is replayed would expire before its first
// try. The rule of an endpoint that only ever puts off is paused in the end, and its rows expire.
func (s *Store) Expire(ctx context.Context, age time.Duration, limit int) (int, error) {
	return s.changeFound(ctx, "expire rows", old(delivery.Pending, age, limit), statement{
		"UPDATE webhook_dispatcher_delivery SET state = ?, due_at = NULL, reason = ?, updated_at = UTC_TIMESTAMP(3) WHERE id IN ",
		[]any{delivery.Dead, delivery.ReasonExpired},
	})
}

// old locks up to limit rows that nothing has changed in state for longer than age, the oldest
// first. It skips rows that others hold.
func old(state delivery.State, age time.Duration, limit int) statement {
	return statement{
		`SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (ix_state) WHERE state = ?
  AND updated_at < DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) ORDER BY updated_at LIMIT ? FOR UPDATE SKIP LOCKED`,
		[]any{state, micros(age), capped(limit)},
	}
}
