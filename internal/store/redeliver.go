package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Standing is what a replay needs to know about a row.
type Standing struct {
	RowID uint64
	State delivery.State
	Kept  bool // it has a body
}

// Standings returns the standing of each delivery that has a row.
func (s *Store) Standings(ctx context.Context, ids []delivery.ID) (map[delivery.ID]Standing, error) {
	standings := make(map[delivery.ID]Standing)
	for chunk := range slices.Chunk(ids, maxRows) {
		args := make([]any, len(chunk))
		for i := range chunk {
			args[i] = chunk[i][:]
		}
		rows, err := s.db.QueryContext(ctx, "SELECT webhook_id, id, state, body_size > 0 FROM webhook_dispatcher_delivery WHERE webhook_id IN "+
			list(len(args)), args...)
		_, err = collect(rows, err, func(rows *sql.Rows, one *Standing) error {
			var raw []byte
			err := rows.Scan(&raw, &one.RowID, &one.State, &one.Kept)
			if err == nil && len(raw) == len(delivery.ID{}) {
				standings[delivery.ID(raw)] = *one
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look for the rows of %d deliveries: %w", len(chunk), clean(err))
		}
	}
	return standings, nil
}

// Restore gives dead rows without a body the body in rows and makes them pending like Replay. It
// returns how many. Rows that are gone, not dead or have a body stay, so a second call does
// nothing. Bodies that do not fit are in a *delivery.RejectedError and do not affect other rows.
// After an error, restored counts the rows already done.
func (s *Store) Restore(ctx context.Context, rows []delivery.Insert) (restored int, err error) {
	pick, rejected := s.pick(rows)
	pick = slices.DeleteFunc(pick, func(i int) bool { return len(rows[i].Body) == 0 })
	for chunk := range slices.Chunk(pick, maxRows) {
		done := 0
		err := s.transaction(ctx, fmt.Sprintf("restore %d deliveries", len(chunk)), func(tx *sql.Tx) error {
			done = 0
			for _, i := range chunk {
				n, err := restoreRow(ctx, tx, &rows[i])
				if err != nil {
					return err
				}
				done += n
			}
			return nil
		})
		if err != nil {
			return restored, err
		}
		restored += done
	}
	if len(rejected) > 0 {
		return restored, &delivery.RejectedError{Rows: rejected}
	}
	return restored, nil
}

// restoreRow uses one statement per row, as bodies are large and all different.
func restoreRow(ctx context.Context, tx *sql.Tx, row *delivery.Insert) (int, error) {
	to := delivery.Replay()
	result, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = ?, attempts = ?, claims = ?, reason = ?,
  lease_token = NULL, body_format = ?, body_size = ?, body = ?,
  due_at = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND), updated_at = UTC_TIMESTAMP(3)
  WHERE webhook_id = ? AND state = 3 AND body_size = 0`, uint8(to.State), to.Attempts, to.Claims, string(to.Reason),
		uint8(row.Format), len(row.Body), row.Body, micros(to.Delay), row.ID[:])
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// EndedRow is a position in a walk over ended rows; the zero EndedRow is its start.
type EndedRow struct {
	id uint64
	at time.Time
}

// where restricts conditions to rows after r, in the order of their end and then their numbers.
func (r EndedRow) where(where string, args []any) (string, []any) {
	if r.id == 0 {
		return where, args
	}
	return where + " AND updated_at >= ? AND (updated_at > ? OR id > ?)", append(slices.Clip(args), r.at, r.at, r.id)
}

// EndedPage returns up to limit (at most 500) rows that ended in state and match f (f.States is
// ignored), in the order in which they ended, and where to continue. Fewer than limit means the
// end. f.Until is required and must not be in the future: a row that ends again during the walk
// would be met again.
func (s *Store) EndedPage(
	ctx context.Context, state delivery.State, f Selection, after EndedRow, limit int,
) (page []Summary, last EndedRow, err error) {
	if !state.Ended() || f.Until.IsZero() || limit <= 0 {
		return nil, after, errors.New("page ended rows: needs an ended state, an end of the time range and a limit above 0")
	}
	where, args := after.where(f.where(state))
	rows, err := s.db.QueryContext(ctx, summaryColumns+"FORCE INDEX (ix_state)"+where+" ORDER BY updated_at, id LIMIT ?",
		append(args, min(limit, maxRows))...)
	page, err = collect(rows, err, scanSummary)
	if err != nil {
		return nil, after, fmt.Errorf("page %s rows: %w", state, clean(err))
	}
	if n := len(page); n > 0 {
		after = EndedRow{id: page[n-1].RowID, at: page[n-1].UpdatedAt}
	}
	return page, after, nil
}

// Waiting counts the rows of a lane that have not ended.
func (s *Store) Waiting(ctx context.Context, lane delivery.Lane) (rows int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at IS NOT NULL`, uint8(lane.Kind), lane.RuleID).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("count the waiting rows of %s rule %d: %w", lane.Kind, lane.RuleID, clean(err))
	}
	return rows, nil
}

// UndecodableIDs returns up to limit (at most 500) numbers of kept records with the reason ("" for
// any), above after and up to upTo, ascending.
func (s *Store) UndecodableIDs(ctx context.Context, reason string, after, upTo uint64, limit int) ([]uint64, error) {
	statement, args := "SELECT id FROM webhook_dispatcher_undecodable WHERE id > ? AND id <= ?", []any{after, upTo}
	if reason != "" {
		if !isASCII(reason) {
			return nil, nil // the server would refuse to compare it with the column
		}
		statement, args = statement+" AND reason = ?", append(args, reason)
	}
	rows, err := s.db.QueryContext(ctx, statement+" ORDER BY id LIMIT ?", append(args, max(0, min(limit, maxRows)))...)
	ids, err := collect(rows, err, func(rows *sql.Rows, id *uint64) error { return rows.Scan(id) })
	if err != nil {
		return nil, fmt.Errorf("read the numbers of undecodable records: %w", clean(err))
	}
	return ids, nil
}

// Redeliver deletes a kept record and creates the rows of its deliveries, if any, in one
// transaction. done is false, and nothing has changed, if the record is gone. Existing rows of
// deliveries stay. If a row does not fit nothing is done, and the error is a
// *delivery.RejectedError.
func (s *Store) Redeliver(ctx context.Context, record uint64, rows []delivery.Insert) (done bool, err error) {
	for i := range rows {
		if rows[i].State != delivery.Pending {
			return false, fmt.Errorf("redeliver record %d: a delivery begins pending, not %s", record, rows[i].State)
		}
	}
	pick, rejected := s.pick(rows)
	if len(rejected) > 0 {
		return false, &delivery.RejectedError{Rows: rejected}
	}
	err = s.transaction(ctx, fmt.Sprintf("redeliver undecodable record %d", record), func(tx *sql.Tx) error {
		// Locked first and deleted last: of two concurrent calls the second finds nothing.
		found, err := tx.QueryContext(ctx, "SELECT id FROM webhook_dispatcher_undecodable WHERE id = ? FOR UPDATE", record)
		ids, err := collect(found, err, scanID)
		if done = len(ids) > 0; err != nil || !done {
			return err
		}
		if err := s.insertIn(ctx, tx, rows, pick); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM webhook_dispatcher_undecodable WHERE id = ?", record)
		return err
	})
	if err != nil {
		return false, err
	}
	return done, nil
}
