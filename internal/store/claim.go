package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// DueLanes returns every lane that has a pending or leased row, the longest due first. Its cost
// follows the number of lanes, not of rows: the index gives the first row of each. It sees
// uncommitted changes; see dueRows.
func (s *Store) DueLanes(ctx context.Context) (lanes []delivery.LaneDue, err error) {
	lanes, err = transactionAt(ctx, s, uncommitted, "look for due lanes", func(tx *sql.Tx) ([]delivery.LaneDue, error) {
		return query(ctx, tx, func(rows *sql.Rows, lane *delivery.LaneDue) error {
			var due, now time.Time
			err := rows.Scan(&lane.Lane.Kind, &lane.Lane.RuleID, &due, &now)
			lane.Wait = due.Sub(now)
			return err
		}, `SELECT kind, rule_id, MIN(due_at), UTC_TIMESTAMP(3) FROM webhook_dispatcher_delivery
  GROUP BY kind, rule_id HAVING MIN(due_at) IS NOT NULL`)
	})
	slices.SortStableFunc(lanes, func(a, b delivery.LaneDue) int { return cmp.Compare(a.Wait, b.Wait) })
	return lanes, err
}

// claimBytes bounds the bodies of one claim, which are all in memory until they are sent.
const claimBytes = 8 << 20

// Claim leases up to room of the lane's due rows, the longest due first, and returns them. It
// returns fewer if their bodies take more than 8 MiB (but at least one), or if others claim at the
// same moment. Rows whose lease has expired are due. While a lease holds, no other caller gets its
// row. token must be new for each call: it is what Finish is fenced by.
//
// After an error rows may be leased all the same, until GiveBack or the end of the lease.
func (s *Store) Claim(
	ctx context.Context, lane delivery.Lane, room int, lease time.Duration, token delivery.Token,
) ([]delivery.Row, error) {
	if room <= 0 {
		return nil, nil
	}
	if token == (delivery.Token{}) || lease <= 0 {
		return nil, errors.New("claim: needs a token and a lease above zero")
	}
	room = capped(room)
	return transactionAt(ctx, s, uncommitted, "claim rows of "+name(lane), func(tx *sql.Tx) (claimed []delivery.Row, err error) {
		due, err := dueRows(ctx, tx, lane, 2*room)
		if err != nil {
			return nil, err
		}
		// Some may be locked or taken by others by now; then the next take their place.
		for bytes := int64(0); len(due) > 0 && len(claimed) < room; {
			var ids []any
			ids, due = fitting(due, room-len(claimed), &bytes)
			if len(ids) == 0 {
				break
			}
			rows, err := query(ctx, tx, scanRow, rowColumns+" FORCE INDEX (`PRIMARY`) WHERE id IN "+list(len(ids))+
				" AND kind = ? AND rule_id = ? AND due_at <= UTC_TIMESTAMP(3) FOR UPDATE SKIP LOCKED",
				append(ids, lane.Kind, lane.RuleID)...)
			if err != nil {
				return nil, err
			}
			claimed = append(claimed, rows...)
		}
		return claimed, leaseRows(ctx, tx, claimed, lease, token)
	})
}

// dueRow is a row that may be claimed.
type dueRow struct {
	id   uint64
	size int64 // of its body
}

// dueRows returns the rows of a lane that seem to be due, the longest due first. It reads only the
// index and locks nothing: a locking scan would have to find out, for each entry of an earlier
// claim that is not yet purged, whether somebody holds it. Run it at the level uncommitted, where
// such entries are skipped at once.
func dueRows(ctx context.Context, tx *sql.Tx, lane delivery.Lane, limit int) ([]dueRow, error) {
	return query(ctx, tx, func(rows *sql.Rows, row *dueRow) error { return rows.Scan(&row.id, &row.size) },
		`SELECT id, body_size FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at <= UTC_TIMESTAMP(3) ORDER BY due_at LIMIT ?`, lane.Kind, lane.RuleID, limit)
}

// fitting takes the ids of the first rows: at most n, and as many as claimBytes allows in addition
// to bytes taken so far, but at least one if these are 0.
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

// leaseRows leases locked rows, in the table and in the slice.
func leaseRows(ctx context.Context, tx *sql.Tx, rows []delivery.Row, lease time.Duration, token delivery.Token) error {
	if len(rows) == 0 {
		return nil
	}
	at, err := now(ctx, tx, time.Millisecond)
	if err != nil {
		return err
	}
	until := at.Add(lease).Truncate(time.Millisecond)
	args := []any{token[:], until, at}
	for i := range rows {
		row := &rows[i]
		args = append(args, row.RowID)
		row.State, row.Token, row.Claims = delivery.Leased, token, small(row.Claims+1)
		row.DueAt, row.UpdatedAt = until, at
	}
	_, err = tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = 1, lease_token = ?, due_at = ?,
  claims = LEAST(claims + 1, 65535), updated_at = ? WHERE id IN `+list(len(rows)), args...)
	return err
}

// GiveBack makes those rows of a lane due again that a claim leased to the holder of token, and
// returns how many. lease is what the claim asked for. It is for a claim whose outcome is unknown:
// the rows do not count it.
func (s *Store) GiveBack(ctx context.Context, lane delivery.Lane, lease time.Duration, token delivery.Token) (given int, err error) {
	// The search takes no locks: others are at work in the same range.
	return s.changeFound(ctx, "give claimed rows of "+name(lane)+" back",
		statement{
			`SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at > UTC_TIMESTAMP(3)
  AND due_at <= DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) AND lease_token = ? AND state = 1`,
			[]any{lane.Kind, lane.RuleID, micros(lease), token[:]},
		},
		statement{`UPDATE webhook_dispatcher_delivery SET state = 0, lease_token = NULL, due_at = UTC_TIMESTAMP(3),
  claims = GREATEST(claims, 1) - 1, updated_at = UTC_TIMESTAMP(3) WHERE lease_token = ? AND state = 1 AND id IN `, []any{token[:]}})
}

// KillLane makes up to limit rows of a lane dead that nobody is sending: pending ones and those
// whose lease has expired. It returns how many; fewer than limit means that only those are left
// that others hold. limit is capped at 500.
func (s *Store) KillLane(ctx context.Context, lane delivery.Lane, reason delivery.Reason, limit int) (killed int, err error) {
	return s.changeFound(ctx, "dead-letter rows of "+name(lane),
		statement{`SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at IS NOT NULL AND (state = 0 OR due_at <= UTC_TIMESTAMP(3))
  ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED`, []any{lane.Kind, lane.RuleID, capped(limit)}},
		statement{`UPDATE webhook_dispatcher_delivery SET state = 3, due_at = NULL, lease_token = NULL, reason = ?,
  updated_at = UTC_TIMESTAMP(3) WHERE id IN `, []any{reason}})
}
