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

// DueLanes returns every lane with a pending or leased row, longest due first. The index gives each
// lane's first row, so its cost follows the number of lanes. It reads uncommitted changes; see
// dueRows.
func (s *Store) DueLanes(ctx context.Context) (lanes []delivery.LaneDue, err error) {
	err = s.transactionAt(ctx, uncommitted, "look for due lanes", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT kind, rule_id, MIN(due_at), UTC_TIMESTAMP(3) FROM webhook_dispatcher_delivery
  GROUP BY kind, rule_id HAVING MIN(due_at) IS NOT NULL`)
		lanes, err = collect(rows, err, func(rows *sql.Rows, lane *delivery.LaneDue) error {
			var now time.Time
			if err := rows.Scan(&lane.Lane.Kind, &lane.Lane.RuleID, &lane.DueAt, &now); err != nil {
				return err
			}
			lane.Wait = lane.DueAt.Sub(now)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(lanes, func(a, b delivery.LaneDue) int { return a.DueAt.Compare(b.DueAt) })
	return lanes, nil
}

// claimBytes bounds the bodies of a claim, which are in memory until sent.
const claimBytes = 8 << 20

// Claim leases up to room of the lane's due rows, longest due first, and returns them. It returns
// fewer if their bodies exceed 8 MiB (but at least one) or others claim at the same time. Rows with
// expired leases are due. No row goes to two callers while a lease holds. Each call needs a new
// token, by which Finish recognises the lease.
//
// After an error rows may be leased all the same, until GiveBack or the end of the lease.
func (s *Store) Claim(
	ctx context.Context, lane delivery.Lane, room int, lease time.Duration, token delivery.Token,
) (claimed []delivery.Row, err error) {
	if room <= 0 {
		return nil, nil
	}
	if token == (delivery.Token{}) || lease <= 0 {
		return nil, errors.New("claim: needs a token and a lease above zero")
	}
	room = min(room, maxRows)
	what := fmt.Sprintf("claim rows of %s rule %d", lane.Kind, lane.RuleID)
	err = s.transactionAt(ctx, uncommitted, what, func(tx *sql.Tx) error {
		claimed = nil
		due, err := dueRows(ctx, tx, lane, 2*room)
		if err != nil {
			return err
		}
		// Some may be locked or already claimed by others; the next ones replace them.
		for bytes := int64(0); len(due) > 0 && len(claimed) < room; {
			var ids []any
			ids, due = fitting(due, room-len(claimed), &bytes)
			if len(ids) == 0 {
				break
			}
			rows, err := lockDue(ctx, tx, lane, ids)
			if err != nil {
				return err
			}
			claimed = append(claimed, rows...)
		}
		return leaseRows(ctx, tx, claimed, lease, token)
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// dueRow is a row that may be claimed.
type dueRow struct {
	id   uint64
	size int64 // of its body
}

// uncommitted makes plain reads see uncommitted changes. Locking reads are unaffected.
const uncommitted = sql.LevelReadUncommitted

// dueRows returns the rows of a lane that seem due, longest due first. It reads only the index and
// locks nothing: a locking scan would check the locks of every not yet purged entry of rows claimed
// before. At the level uncommitted such entries are skipped at once.
func dueRows(ctx context.Context, tx *sql.Tx, lane delivery.Lane, limit int) ([]dueRow, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, body_size FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at <= UTC_TIMESTAMP(3) ORDER BY due_at LIMIT ?`, uint8(lane.Kind), lane.RuleID, limit)
	return collect(rows, err, func(rows *sql.Rows, row *dueRow) error { return rows.Scan(&row.id, &row.size) })
}

// fitting takes the ids of the first rows: at most n, and within claimBytes including the bytes
// taken so far, but at least one if that is 0.
func fitting(due []dueRow, n int, bytes *int64) (ids []any, rest []dueRow) {
	for len(due) > 0 && len(ids) < n {
		if *bytes > 0 && *bytes+due[0].size > claimBytes {
			return ids, nil
		}
		*bytes += due[0].size
		ids = append(ids, due[0].id)
		due = due[1:]
	}
	return ids, due
}

// lockDue locks and returns the rows that are really due and not locked by others.
func lockDue(ctx context.Context, tx *sql.Tx, lane delivery.Lane, ids []any) ([]delivery.Row, error) {
	rows, err := tx.QueryContext(ctx, rowColumns+" FORCE INDEX (`PRIMARY`) WHERE id IN "+list(len(ids))+
		" AND kind = ? AND rule_id = ? AND due_at <= UTC_TIMESTAMP(3) FOR UPDATE SKIP LOCKED", append(ids, uint8(lane.Kind), lane.RuleID)...)
	return collect(rows, err, scanRow)
}

// leaseRows leases locked rows, in the table and in the slice.
func leaseRows(ctx context.Context, tx *sql.Tx, rows []delivery.Row, lease time.Duration, token delivery.Token) error {
	if len(rows) == 0 {
		return nil
	}
	var now time.Time
	if err := tx.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(3)").Scan(&now); err != nil {
		return err
	}
	now = now.Truncate(time.Millisecond)
	ids := make([]any, len(rows))
	for i := range rows {
		row := &rows[i]
		ids[i] = row.RowID
		row.State, row.Token, row.Claims = delivery.Leased, token, small(row.Claims+1)
		row.DueAt, row.UpdatedAt = now.Add(lease).Truncate(time.Millisecond), now
	}
	_, err := tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = 1, lease_token = ?, due_at = ?,
  claims = LEAST(claims + 1, 65535), updated_at = ? WHERE id IN `+list(len(ids)), append([]any{token[:], rows[0].DueAt, now}, ids...)...)
	return err
}

// GiveBack makes rows of a lane due again that token holds under a lease of up to lease, and
// returns how many. It is for claims with an unknown outcome, which then do not count.
func (s *Store) GiveBack(ctx context.Context, lane delivery.Lane, lease time.Duration, token delivery.Token) (given int, err error) {
	what := fmt.Sprintf("give claimed rows of %s rule %d back", lane.Kind, lane.RuleID)
	err = s.transaction(ctx, what, func(tx *sql.Tx) error {
		// Without locks, as others work in the same range.
		rows, err := tx.QueryContext(ctx, `SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim) WHERE kind = ? AND rule_id = ?
  AND due_at > UTC_TIMESTAMP(3) AND due_at <= DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) AND lease_token = ? AND state = 1`,
			uint8(lane.Kind), lane.RuleID, micros(lease), token[:])
		ids, err := collect(rows, err, scanID)
		if given = len(ids); err != nil || given == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = 0, lease_token = NULL, due_at = UTC_TIMESTAMP(3),
  claims = GREATEST(claims, 1) - 1, updated_at = UTC_TIMESTAMP(3) WHERE id IN `+list(len(ids))+" AND lease_token = ? AND state = 1",
			append(ids, token[:])...)
		return err
	})
	if err != nil {
		return 0, err
	}
	return given, nil
}

// Get returns a delivery's row, and whether it exists.
func (s *Store) Get(ctx context.Context, id delivery.ID) (delivery.Row, bool, error) {
	found, err := s.rows(ctx, "WHERE webhook_id = ?", id[:])
	if err != nil {
		return delivery.Row{}, false, fmt.Errorf("read delivery %s: %w", id, clean(err))
	}
	if len(found) == 0 {
		return delivery.Row{}, false, nil
	}
	return found[0], true, nil
}

func (s *Store) rows(ctx context.Context, where string, args ...any) ([]delivery.Row, error) {
	rows, err := s.db.QueryContext(ctx, rowColumns+where, args...)
	return collect(rows, err, scanRow)
}

const rowColumns = `SELECT id, webhook_id, kind, rule_id, state, due_at, lease_token, claims, attempts, reason, last_status, event_type,
  event_id, event_time, body_format, body, traceparent, created_at, updated_at FROM webhook_dispatcher_delivery `

func scanRow(rows *sql.Rows, row *delivery.Row) error {
	var id, token []byte
	var dueAt, eventTime sql.NullTime
	err := rows.Scan(&row.RowID, &id, &row.Kind, &row.RuleID, &row.State, &dueAt, &token, &row.Claims, &row.Attempts, &row.Reason,
		&row.LastStatus, &row.EventType, &row.EventID, &eventTime, &row.Format, &row.Body, &row.Traceparent, &row.CreatedAt, &row.UpdatedAt)
	copy(row.ID[:], id)
	copy(row.Token[:], token)
	row.DueAt, row.EventTime = dueAt.Time, eventTime.Time
	return err
}

func scanID(rows *sql.Rows, id *any) error {
	var n uint64
	err := rows.Scan(&n)
	*id = n
	return err
}

// collect reads all rows of a query that returned err.
func collect[T any](rows *sql.Rows, err error, scan func(*sql.Rows, *T) error) (all []T, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err has the error
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
