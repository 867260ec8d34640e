package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// revive (dead → pending) restarts a dead row at the beginning of its schedule and under the same
// ID, so that a receiver that did accept it can detect the repeat.
const revive = `UPDATE webhook_dispatcher_delivery SET state = 0, attempts = 0, claims = 0, reason = '', lease_token = NULL,
  due_at = UTC_TIMESTAMP(3), updated_at = UTC_TIMESTAMP(3)`

// Replay makes dead rows pending again, due at once, in transactions of 500, and returns how many.
// Rows that are gone, not dead (any more) or without a body stay as they are, so a second call does
// nothing. After an error replayed is how many were made pending before it.
func (s *Store) Replay(ctx context.Context, ids []uint64) (replayed int, err error) {
	return inChunks(ids, func(chunk []uint64) (int, error) {
		// The state is checked under the lock: the pruner, or another replay and then a claimer, may
		// have changed it since the caller looked.
		find := "SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (`PRIMARY`) WHERE id IN " + list(len(chunk)) +
			" AND state = 3 AND body_size > 0 FOR UPDATE"
		args := arguments(chunk, func(id *uint64) any { return *id })
		return s.changeFound(ctx, fmt.Sprintf("replay %d deliveries", len(chunk)),
			statement{find, args}, statement{revive + " WHERE id IN ", nil})
	})
}

// Restore is Replay for dead rows that were kept without their body, which it takes from rows. Rows
// that are gone, not dead (any more) or have a body stay as they are. Bodies that do not fit make a
// *delivery.RejectedError and do not hold up other rows.
func (s *Store) Restore(ctx context.Context, rows []delivery.Insert) (restored int, err error) {
	pick, rejected := s.pick(rows)
	pick = slices.DeleteFunc(pick, func(i int) bool { return len(rows[i].Body) == 0 })
	restored, err = inChunks(pick, func(chunk []int) (int, error) {
		return transaction(ctx, s, fmt.Sprintf("restore %d deliveries", len(chunk)), func(tx *sql.Tx) (done int, err error) {
			for _, i := range chunk { // a statement for each: the bodies are large and all different
				row := &rows[i]
				result, err := tx.ExecContext(ctx, revive+", body_format = ?, body_size = ?, body = ?"+
					" WHERE webhook_id = ? AND state = 3 AND body_size = 0", row.Format, len(row.Body), row.Body, row.ID[:])
				if err != nil {
					return 0, err
				}
				n, err := result.RowsAffected()
				if err != nil {
					return 0, err
				}
				done += int(n)
			}
			return done, nil
		})
	})
	if err == nil && len(rejected) > 0 {
		err = &delivery.RejectedError{Rows: rejected}
	}
	return restored, err
}

// Dead counts the dead rows of a selection.
type Dead struct {
	Replayable int
	Bodyless   int           // their body was not kept, so there is nothing to send
	Examples   []delivery.ID // of the bodyless, 10 at most, the oldest first
}

const maxExamples = 10

// CountDead counts the dead rows that f selects; f.States is ignored.
func (s *Store) CountDead(ctx context.Context, f Selection) (Dead, error) {
	const what = "count dead deliveries"
	where, args := f.where(delivery.Dead)
	const from = " FROM webhook_dispatcher_delivery FORCE INDEX (ix_state)"
	dead, _, err := readOne(ctx, s, what, func(rows *sql.Rows, d *Dead) error { return rows.Scan(&d.Replayable, &d.Bodyless) },
		"SELECT COUNT(CASE WHEN body_size > 0 THEN 1 END), COUNT(CASE WHEN body_size = 0 THEN 1 END)"+from+where, args...)
	if err != nil || dead.Bodyless == 0 {
		return dead, err
	}
	dead.Examples, err = read(ctx, s, what, func(rows *sql.Rows, id *delivery.ID) error { return rows.Scan(into(id[:])) },
		"SELECT webhook_id"+from+where+" AND body_size = 0 ORDER BY updated_at, id LIMIT ?", append(args, maxExamples)...)
	return dead, err
}

// ReplayDead is Replay for all dead rows that f selects; f.States is ignored. f.Until is required
// and must not be in the future: a row that is sent and dies again meanwhile would come again.
func (s *Store) ReplayDead(ctx context.Context, f Selection) (replayed int, err error) {
	if f.Until.IsZero() {
		return 0, errors.New("replay dead deliveries: needs an end of the time range")
	}
	where, args := f.where(delivery.Dead)
	where += " AND body_size > 0"
	var last EndedRow
	for {
		// Read without locks, then checked again under them: a locking walk would hold up all rows
		// that die meanwhile.
		page, pageArgs := last.where(where, slices.Clip(args))
		var ids []uint64
		_, err := read(ctx, s, "replay dead deliveries: read their ids", func(rows *sql.Rows, _ *struct{}) error {
			err := rows.Scan(&last.id, &last.at)
			ids = append(ids, last.id)
			return err
		}, "SELECT id, updated_at FROM webhook_dispatcher_delivery FORCE INDEX (ix_state)"+page+
			" ORDER BY updated_at, id LIMIT ?", append(pageArgs, maxRows)...)
		if err != nil {
			return replayed, err
		}
		done, err := s.Replay(ctx, ids)
		replayed += done
		if err != nil || len(ids) < maxRows {
			return replayed, err
		}
	}
}
