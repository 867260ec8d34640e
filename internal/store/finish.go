package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Finish writes the results of leases in few statements. A result applies only while its row is
// leased with the same token; lost has the IDs of the others. Delivered rows keep their key and
// lose their body. After an error some results may have been written; on a second call those are
// among the lost.
func (s *Store) Finish(ctx context.Context, updates []delivery.Update) (lost []delivery.ID, err error) {
	for i := range updates {
		if state := updates[i].State; state == delivery.Leased || state > delivery.Halted {
			return nil, fmt.Errorf("finish delivery %s: a lease ends pending, delivered, dead or halted, not %s", updates[i].ID, state)
		}
	}
	for len(updates) > 0 {
		n := min(len(updates), maxRows)
		gone, err := s.finishChunk(ctx, updates[:n])
		if err != nil {
			return lost, err
		}
		lost = append(lost, gone...)
		updates = updates[n:]
	}
	return lost, nil
}

// outcome is what the updates of a statement have in common.
type outcome struct {
	state      delivery.State
	attempts   int
	claims     int
	reason     delivery.Reason
	lastStatus int
}

// rowDelay is a row and, if it is pending again, its delay.
type rowDelay struct {
	id    uint64
	delay time.Duration
}

type leased struct {
	row   uint64
	id    delivery.ID
	token delivery.Token
}

func (s *Store) finishChunk(ctx context.Context, updates []delivery.Update) (lost []delivery.ID, err error) {
	err = s.transaction(ctx, fmt.Sprintf("write %d results", len(updates)), func(tx *sql.Tx) error {
		lost = nil
		held, err := lockLeased(ctx, tx, updates)
		if err != nil {
			return err
		}
		// One statement per outcome, in any order: all rows are locked.
		var order []outcome
		groups := make(map[outcome][]rowDelay)
		for i := range updates {
			u := &updates[i]
			row, ok := held[u.ID]
			if !ok || row.token != u.Token || u.Token == (delivery.Token{}) {
				lost = append(lost, u.ID)
				continue
			}
			delete(held, u.ID) // a second result for the lease is lost
			key := outcome{u.State, small(u.Attempts), small(u.Claims), u.Reason, small(u.LastStatus)}
			if _, ok := groups[key]; !ok {
				order = append(order, key)
			}
			groups[key] = append(groups[key], rowDelay{row.row, u.Delay})
		}
		for _, key := range order {
			if err := key.write(ctx, tx, groups[key]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// lockLeased locks the leased rows among updates. Tokens are compared under the lock rather than by
// counting changed rows, which servers do differently.
func lockLeased(ctx context.Context, tx *sql.Tx, updates []delivery.Update) (map[delivery.ID]leased, error) {
	ids := make([]any, len(updates))
	for i := range updates {
		ids[i] = updates[i].ID[:]
	}
	rows, err := tx.QueryContext(ctx, `SELECT id, webhook_id, lease_token FROM webhook_dispatcher_delivery FORCE INDEX (uq_webhook_id)
  WHERE webhook_id IN `+list(len(ids))+` AND state = 1 FOR UPDATE`, ids...)
	found, err := collect(rows, err, func(rows *sql.Rows, l *leased) error {
		var id, token []byte
		err := rows.Scan(&l.row, &id, &token)
		copy(l.id[:], id)
		copy(l.token[:], token)
		return err
	})
	held := make(map[delivery.ID]leased, len(found))
	for _, l := range found {
		held[l.id] = l
	}
	return held, err
}

func (o outcome) write(ctx context.Context, tx *sql.Tx, rows []rowDelay) error {
	var statement strings.Builder
	args := make([]any, 0, 6+3*len(rows))
	statement.WriteString("UPDATE webhook_dispatcher_delivery SET state = ?, lease_token = NULL, attempts = ?, claims = ?, reason = ?, " +
		"last_status = ?, updated_at = UTC_TIMESTAMP(3)")
	args = append(args, uint8(o.state), o.attempts, o.claims, string(o.reason), o.lastStatus)
	switch o.state {
	case delivery.Pending:
		statement.WriteString(", due_at = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ")
		if same(rows) {
			statement.WriteString("?")
			args = append(args, micros(rows[0].delay))
		} else {
			statement.WriteString("CASE id")
			for _, row := range rows {
				statement.WriteString(" WHEN ? THEN ?")
				args = append(args, row.id, micros(row.delay))
			}
			statement.WriteString(" END")
		}
		statement.WriteString(" MICROSECOND)")
	case delivery.Delivered:
		statement.WriteString(", due_at = NULL, body = '', body_size = 0")
	default:
		statement.WriteString(", due_at = NULL")
	}
	statement.WriteString(" WHERE id IN ")
	statement.WriteString(list(len(rows)))
	for _, row := range rows {
		args = append(args, row.id)
	}
	_, err := tx.ExecContext(ctx, statement.String(), args...)
	return err
}

func same(rows []rowDelay) bool {
	for _, row := range rows {
		if row.delay != rows[0].delay {
			return false
		}
	}
	return true
}

// KillLane dead-letters up to limit (at most 500, to keep locks short) rows of a lane that are
// pending or whose lease has expired, and returns how many. Fewer than limit means that no others
// remain, except locked ones.
func (s *Store) KillLane(ctx context.Context, lane delivery.Lane, reason delivery.Reason, limit int) (killed int, err error) {
	limit = min(limit, maxRows)
	if limit <= 0 {
		return 0, nil
	}
	what := fmt.Sprintf("dead-letter rows of %s rule %d", lane.Kind, lane.RuleID)
	err = s.transaction(ctx, what, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at IS NOT NULL AND (state = 0 OR due_at <= UTC_TIMESTAMP(3))
  ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED`, uint8(lane.Kind), lane.RuleID, limit)
		ids, err := collect(rows, err, scanID)
		killed = len(ids)
		if err != nil || killed == 0 {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE webhook_dispatcher_delivery SET state = 3, due_at = NULL, lease_token = NULL, reason = ?,
  updated_at = UTC_TIMESTAMP(3) WHERE id IN `+list(len(ids)), append([]any{string(reason)}, ids...)...)
		return err
	})
	if err != nil {
		return 0, err
	}
	return killed, nil
}
