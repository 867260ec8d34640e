package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Replay makes dead rows pending as delivery.Replay says, in transactions of 500, and returns how
// many. Rows that are gone, not dead or without a body stay, so a second call does nothing. After
// an error, replayed counts the rows already done.
func (s *Store) Replay(ctx context.Context, ids []uint64) (replayed int, err error) {
	for len(ids) > 0 {
		n := min(len(ids), maxRows)
		done, err := s.replayChunk(ctx, ids[:n])
		if err != nil {
			return replayed, err
		}
		replayed += done
		ids = ids[n:]
	}
	return replayed, nil
}

func (s *Store) replayChunk(ctx context.Context, chunk []uint64) (replayed int, err error) {
	args := make([]any, len(chunk))
	for i, id := range chunk {
		args[i] = id
	}
	err = s.transaction(ctx, fmt.Sprintf("replay %d deliveries", len(chunk)), func(tx *sql.Tx) error {
		// The state is checked under the lock: it may have changed.
		rows, err := tx.QueryContext(ctx, "SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (`PRIMARY`) "+`
  WHERE id IN `+list(len(args))+` AND state = 3 AND body_size > 0 FOR UPDATE`, args...)
		dead, err := collect(rows, err, scanID)
		replayed = len(dead)
		if err != nil || replayed == 0 {
			return err
		}
		to := delivery.Replay()
		_, err = tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = ?, attempts = ?, claims = ?, reason = ?, lease_token = NULL,
  due_at = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND), updated_at = UTC_TIMESTAMP(3) WHERE id IN `+list(len(dead)),
			append([]any{uint8(to.State), to.Attempts, to.Claims, string(to.Reason), micros(to.Delay)}, dead...)...)
		return err
	})
	if err != nil {
		return 0, err
	}
	return replayed, nil
}

// Dead counts dead rows.
type Dead struct {
	Replayable int
	Bodyless   int           // their body was not kept
	Examples   []delivery.ID // of Bodyless, up to 10, oldest first
}

const maxExamples = 10

// CountDead counts the selected dead rows; f.States is ignored.
func (s *Store) CountDead(ctx context.Context, f Selection) (Dead, error) {
	const what = "count dead deliveries"
	where, args := f.where(delivery.Dead)
	const from = " FROM webhook_dispatcher_delivery FORCE INDEX (ix_state)"
	var total, bodyless int
	err := s.db.QueryRowContext(ctx, "SELECT COUNT(*), COUNT(CASE WHEN body_size = 0 THEN 1 END)"+from+where, args...).Scan(&total, &bodyless)
	if err != nil {
		return Dead{}, fmt.Errorf("%s: %w", what, clean(err))
	}
	dead := Dead{Replayable: total - bodyless, Bodyless: bodyless}
	if bodyless == 0 {
		return dead, nil
	}
	rows, err := s.db.QueryContext(ctx, "SELECT webhook_id"+from+where+" AND body_size = 0 ORDER BY updated_at, id LIMIT ?",
		append(args, maxExamples)...)
	dead.Examples, err = collect(rows, err, func(rows *sql.Rows, id *delivery.ID) error {
		var raw []byte
		err := rows.Scan(&raw)
		copy(id[:], raw)
		return err
	})
	if err != nil {
		return Dead{}, fmt.Errorf("%s: %w", what, clean(err))
	}
	return dead, nil
}

// ReplayDead is Replay for all selected dead rows; f.States is ignored. f.Until is required and
// must not be in the future: a row that is sent and dies again meanwhile would be replayed again.
func (s *Store) ReplayDead(ctx context.Context, f Selection) (replayed int, err error) {
	if f.Until.IsZero() {
		return 0, errors.New("replay dead deliveries: needs an end of the time range")
	}
	where, args := f.where(delivery.Dead)
	where += " AND body_size > 0"
	var last EndedRow
	for {
		// Without locks, which would block everything that dies meanwhile; Replay checks again.
		page, pageArgs := last.where(where, slices.Clip(args))
		rows, err := s.db.QueryContext(ctx, "SELECT id, updated_at FROM webhook_dispatcher_delivery FORCE INDEX (ix_state)"+page+
			" ORDER BY updated_at, id LIMIT ?", append(pageArgs, maxRows)...)
		found, err := collect(rows, err, func(rows *sql.Rows, row *EndedRow) error { return rows.Scan(&row.id, &row.at) })
		if err != nil {
			return replayed, fmt.Errorf("replay dead deliveries: read their ids: %w", clean(err))
		}
		ids := make([]uint64, len(found))
		for i, row := range found {
			ids[i] = row.id
		}
		done, err := s.Replay(ctx, ids)
		replayed += done
		if err != nil || len(found) < maxRows {
			return replayed, err
		}
		last = found[len(found)-1]
	}
}
