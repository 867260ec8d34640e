package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Finish writes the results of leases, with few statements for many results. A result applies only
// while its row is leased with the same token; lost returns the IDs of the others, in no order.
// Delivered rows keep their key and lose their body.
//
// After an error some results may have been written. Written again, those are among the lost.
func (s *Store) Finish(ctx context.Context, updates []delivery.Update) (lost []delivery.ID, err error) {
	for i := range updates {
		if state := updates[i].State; state == delivery.Leased || state > delivery.Halted {
			return nil, fmt.Errorf("finish delivery %s: a lease ends pending, delivered, dead or halted, not %s", updates[i].ID, state)
		}
	}
	for chunk := range slices.Chunk(updates, maxRows) {
		gone, err := transaction(ctx, s, fmt.Sprintf("write %d results", len(chunk)), func(tx *sql.Tx) ([]delivery.ID, error) {
			return finish(ctx, tx, chunk)
		})
		if err != nil {
			return lost, err
		}
		lost = append(lost, gone...)
	}
	return lost, nil
}

type (
	// rowDelay is a row and, if it is pending again, the time until it is due.
	rowDelay struct {
		id    uint64
		delay time.Duration
	}
	lease struct {
		id    delivery.ID
		token delivery.Token
	}
)

func finish(ctx context.Context, tx *sql.Tx, updates []delivery.Update) (lost []delivery.ID, err error) {
	held, err := lockLeased(ctx, tx, arguments(updates, func(u *delivery.Update) any { return u.ID[:] }))
	if err != nil {
		return nil, err
	}
	// Rows with the same outcome share a statement. All are locked by now, so their order cannot
	// make deadlocks.
	outcomes := make(map[delivery.Update][]rowDelay)
	for _, u := range updates {
		key := lease{u.ID, u.Token}
		row, ok := held[key]
		if !ok {
			lost = append(lost, u.ID)
			continue
		}
		delete(held, key) // a second result for the same lease comes too late
		outcome := delivery.Update{
			State: u.State, Attempts: small(u.Attempts), Claims: small(u.Claims), Reason: u.Reason, LastStatus: small(u.LastStatus),
		}
		outcomes[outcome] = append(outcomes[outcome], rowDelay{row, u.Delay})
	}
	for outcome, rows := range outcomes {
		if err := writeOutcome(ctx, tx, &outcome, rows); err != nil {
			return nil, err
		}
	}
	return lost, nil
}

// lockLeased locks those rows of deliveries that are leased, and returns their numbers. Tokens are
// compared here, under the lock, and not by counting changed rows: servers count differently.
func lockLeased(ctx context.Context, tx *sql.Tx, ids []any) (map[lease]uint64, error) {
	held := make(map[lease]uint64, len(ids))
	_, err := query(ctx, tx, func(rows *sql.Rows, l *lease) error {
		var row uint64
		err := rows.Scan(&row, into(l.id[:]), into(l.token[:]))
		if l.token != (delivery.Token{}) {
			held[*l] = row
		}
		return err
	}, `SELECT id, webhook_id, lease_token FROM webhook_dispatcher_delivery FORCE INDEX (uq_webhook_id)
  WHERE webhook_id IN `+list(len(ids))+` AND state = 1 FOR UPDATE`, ids...)
	return held, err
}

func writeOutcome(ctx context.Context, tx *sql.Tx, outcome *delivery.Update, rows []rowDelay) error {
	set, args := "due_at = NULL", make([]any, 0, 5+3*len(rows))
	switch outcome.State {
	case delivery.Pending:
		set = "due_at = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL CASE id" + strings.Repeat(" WHEN ? THEN ?", len(rows)) + " END MICROSECOND)"
		for _, row := range rows {
			args = append(args, row.id, micros(row.delay))
		}
	case delivery.Delivered:
		set += ", body = '', body_size = 0"
	default:
	}
	args = append(args, outcome.State, outcome.Attempts, outcome.Claims, outcome.Reason, outcome.LastStatus)
	for _, row := range rows {
		args = append(args, row.id)
	}
	_, err := tx.ExecContext(ctx, "UPDATE webhook_dispatcher_delivery SET "+set+`, state = ?, lease_token = NULL, attempts = ?,
  claims = ?, reason = ?, last_status = ?, updated_at = UTC_TIMESTAMP(3) WHERE id IN `+list(len(rows)), args...)
	return err
}

// FinishEvent removes the row of an event whose filters have decided, and makes the rows of its
// deliveries, if any, in one transaction. It returns false, and has done nothing, if the row is not
// leased with the token (any more). A delivery that has a row, in any state, keeps it. If a row
// does not fit, nothing is done, and the error is a *delivery.RejectedError.
func (s *Store) FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error) {
	what := "finish event " + id.String()
	if err := checkStates(what, rows, delivery.Pending, delivery.Dead); err != nil {
		return false, err
	}
	return s.replace(ctx, what, rows, "webhook_dispatcher_delivery", func(tx *sql.Tx) (uint64, bool, error) {
		held, err := lockLeased(ctx, tx, []any{id[:]})
		row, ok := held[lease{id, token}]
		return row, ok, err
	})
}

// Redeliver is FinishEvent for a kept undecodable record, which is not leased.
func (s *Store) Redeliver(ctx context.Context, record uint64, rows []delivery.Insert) (done bool, err error) {
	what := fmt.Sprintf("redeliver undecodable record %d", record)
	if err := checkStates(what, rows, delivery.Pending); err != nil {
		return false, err
	}
	return s.replace(ctx, what, rows, "webhook_dispatcher_undecodable", func(tx *sql.Tx) (uint64, bool, error) {
		found, err := query(ctx, tx, scanID, "SELECT id FROM webhook_dispatcher_undecodable WHERE id = ? FOR UPDATE", record)
		return record, len(found) > 0, err
	})
}

// replace inserts rows and deletes the row of table from which they were made. That row is locked
// first and deleted last: of two callers the second waits and finds nothing.
func (s *Store) replace(
	ctx context.Context, what string, rows []delivery.Insert, table string, lock func(*sql.Tx) (id uint64, there bool, err error),
) (done bool, err error) {
	pick, rejected := s.pick(rows)
	if len(rejected) > 0 {
		return false, &delivery.RejectedError{Rows: rejected}
	}
	return transaction(ctx, s, what, func(tx *sql.Tx) (bool, error) {
		id, there, err := lock(tx)
		if err != nil || !there {
			return false, err
		}
		for chunk := range s.insertChunks(rows, pick) {
			text, args := insertStatement(rows, chunk)
			if _, err := tx.ExecContext(ctx, text, args...); err != nil {
				return false, err
			}
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE id = ?", id)
		return true, err
	})
}
