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

// DueLanes returns every lane that has a row pending or leased, the longest due first. Its cost follows the number of lanes, not of rows:
// the index gives the first row of each.
func (s *Store) DueLanes(ctx context.Context) ([]delivery.LaneDue, error) {
	const what = "look for due lanes"
	rows, err := s.db.QueryContext(ctx, `SELECT kind, rule_id, MIN(due_at), UTC_TIMESTAMP(3) FROM webhook_dispatcher_delivery
  GROUP BY kind, rule_id HAVING MIN(due_at) IS NOT NULL`)
	lanes, err := collect(rows, err, func(rows *sql.Rows, lane *delivery.LaneDue) error {
		var now time.Time
		if err := rows.Scan(&lane.Lane.Kind, &lane.Lane.RuleID, &lane.DueAt, &now); err != nil {
			return err
		}
		lane.Wait = lane.DueAt.Sub(now)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, clean(err))
	}
	slices.SortStableFunc(lanes, func(a, b delivery.LaneDue) int { return a.DueAt.Compare(b.DueAt) })
	return lanes, nil
}

// claimBytes bounds the bodies of one claim, which are all in memory until they are sent.
const claimBytes = 8 << 20

// returnTime bounds giving a claim back that could not be read.
const returnTime = 2 * time.Second

// Claim leases up to room of the lane's due rows, the longest due first, and returns them: fewer where their bodies take more than
// 8 MiB, but one at least. Rows whose lease has run out are due. No row is returned to two callers while a lease holds. token
// must be new for each call: it is what Finish is fenced by.
//
// After an error rows may be leased all the same; they are due again when the lease has run out.
func (s *Store) Claim(
	ctx context.Context, lane delivery.Lane, room int, lease time.Duration, token delivery.Token,
) ([]delivery.Row, error) {
	if room <= 0 {
		return nil, nil
	}
	if token == (delivery.Token{}) || lease <= 0 {
		return nil, errors.New("claim: needs a token and a lease above zero")
	}
	room = min(room, maxRows)
	what := fmt.Sprintf("claim rows of %s rule %d", lane.Kind, lane.RuleID)
	var ids []any
	err := s.transaction(ctx, what, func(tx *sql.Tx) error {
		// On a small table the optimizer may prefer to read, and so to lock, all of it: the index is named wherever rows are locked.
		rows, err := tx.QueryContext(ctx, `SELECT id, body_size FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at <= UTC_TIMESTAMP(3) ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED`,
			uint8(lane.Kind), lane.RuleID, room)
		due, err := collect(rows, err, scanDue)
		if err != nil || len(due) == 0 {
			return err
		}
		ids = fitting(due)
		_, err = tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = 1, lease_token = ?,
  due_at = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND), claims = LEAST(claims + 1, 65535), updated_at = UTC_TIMESTAMP(3)
  WHERE id IN `+list(len(ids)), append([]any{token[:], micros(lease)}, ids...)...)
		return err
	})
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	// Bodies are read by primary key and outside the transaction: its locks are short.
	claimed, err := s.rows(ctx, "WHERE id IN "+list(len(ids))+" AND lease_token = ? AND state = 1 ORDER BY id", append(ids, token[:])...)
	if err != nil {
		// Nobody would send them until the lease has run out, and after a few times they would look like a crash loop.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnTime)
		defer cancel()
		_, undo := s.exec(back, what+": give them back", `UPDATE webhook_dispatcher_delivery SET state = 0, lease_token = NULL,
  due_at = UTC_TIMESTAMP(3), claims = GREATEST(claims, 1) - 1 WHERE id IN `+list(len(ids))+" AND lease_token = ? AND state = 1",
			append(ids, token[:])...)
		return nil, errors.Join(fmt.Errorf("%s: read them: %w", what, clean(err)), undo)
	}
	return claimed, nil
}

// dueRow is a row that may be claimed.
type dueRow struct {
	id   uint64
	size int64 // of its body
}

func scanDue(rows *sql.Rows, row *dueRow) error { return rows.Scan(&row.id, &row.size) }

// fitting returns the ids of the first rows, as many as claimBytes allows but one at least.
func fitting(due []dueRow) []any {
	ids, bytes := make([]any, 0, len(due)), int64(0)
	for _, row := range due {
		if bytes += row.size; bytes > claimBytes && len(ids) > 0 {
			break
		}
		ids = append(ids, row.id)
	}
	return ids
}

// Get returns the row of a delivery, and whether there is one.
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
	rows, err := s.db.QueryContext(ctx, `SELECT id, webhook_id, kind, rule_id, state, due_at, lease_token, claims, attempts, reason,
  last_status, event_type, event_id, event_time, body_format, body, traceparent, created_at, updated_at
  FROM webhook_dispatcher_delivery `+where, args...)
	return collect(rows, err, scanRow)
}

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
	defer rows.Close() //nolint:errcheck // Err tells what there is to tell.
	for rows.Next() {
		var one T
		if err := scan(rows, &one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
