package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// Insert creates rows; existing rows with the same ID, in any state, stay. It returns nil only if
// every row is in the database. After an error some may be; inserting them again is harmless.
//
// Invalid UTF-8 becomes U+FFFD, an event time outside DATETIME none, an invalid traceparent empty.
// Rows that do not fit (event type or id over 191 characters, body over MaxBody) are in a
// *delivery.RejectedError; the others are stored.
func (s *Store) Insert(ctx context.Context, rows []delivery.Insert) error {
	for i := range rows {
		row := &rows[i]
		if row.State != delivery.Pending && row.State != delivery.Leased && row.State != delivery.Dead {
			return fmt.Errorf("insert delivery %s: a row begins pending, leased or dead, not %s", row.ID, row.State)
		}
		if row.State == delivery.Leased && row.Token == (delivery.Token{}) {
			return fmt.Errorf("insert delivery %s: a leased row needs a token", row.ID)
		}
	}
	pick, rejected := s.pick(rows)
	limit := s.maxPacket() / 2
	for len(pick) > 0 {
		n := fittingStatement(rows, pick, limit)
		refused, err := s.insertChunk(ctx, rows, pick[:n])
		if err != nil {
			return err
		}
		rejected = append(rejected, refused...)
		pick = pick[n:]
	}
	if len(rejected) > 0 {
		return &delivery.RejectedError{Rows: rejected}
	}
	return nil
}

// pick returns the indices of the rows that can be stored, ordered by ID so that replicas lock in
// the same order, and the rejected rows. Of rows with the same ID the first is used.
func (s *Store) pick(rows []delivery.Insert) (pick []int, rejected []delivery.Rejected) {
	pick = make([]int, 0, len(rows))
	for i := range rows {
		if fault := s.fault(&rows[i]); fault != nil {
			fault.Index = i
			rejected = append(rejected, *fault)
			continue
		}
		pick = append(pick, i)
	}
	slices.SortStableFunc(pick, func(a, b int) int { return bytes.Compare(rows[a].ID[:], rows[b].ID[:]) })
	return slices.CompactFunc(pick, func(a, b int) bool { return rows[a].ID == rows[b].ID }), rejected
}

// fittingStatement returns how many of the picked rows fit a statement of limit bytes, at least
// one.
func fittingStatement(rows []delivery.Insert, pick []int, limit int) int {
	n, size := 0, 0
	for n < len(pick) && n < maxRows {
		size += weight(&rows[pick[n]])
		if n > 0 && size > limit {
			break
		}
		n++
	}
	return n
}

// fault returns why row can never be stored, or nil.
func (s *Store) fault(row *delivery.Insert) *delivery.Rejected {
	check := func(column, text string) *delivery.Rejected {
		if len(text) <= delivery.MaxText {
			return nil
		}
		if n := utf8.RuneCountInString(valid(text)); n > delivery.MaxText {
			return &delivery.Rejected{ID: row.ID, Column: column, Size: n, Limit: delivery.MaxText}
		}
		return nil
	}
	if fault := check("event_type", row.EventType); fault != nil {
		return fault
	}
	if fault := check("event_id", row.EventID); fault != nil {
		return fault
	}
	if n, limit := len(row.Body), s.MaxBody(); n > limit {
		return &delivery.Rejected{ID: row.ID, Column: "body", Size: n, Limit: limit}
	}
	return nil
}

// weight is an upper bound of row's bytes in the statement, with every byte escaped.
func weight(row *delivery.Insert) int {
	return 2*(len(row.Body)+len(row.EventType)+len(row.EventID)) + 512
}

const insertHead = `INSERT INTO webhook_dispatcher_delivery (webhook_id, kind, rule_id, state, due_at, lease_token, claims, attempts,
  reason, last_status, event_type, event_id, event_time, body_format, body_size, body, traceparent, created_at, updated_at) VALUES `

// insertStatement returns a statement that inserts the picked rows and leaves existing ones
// unchanged.
func insertStatement(rows []delivery.Insert, pick []int) (string, []any) {
	var statement strings.Builder
	statement.Grow(len(insertHead) + 160*len(pick))
	statement.WriteString(insertHead)
	args := make([]any, 0, 16*len(pick))
	for n, i := range pick {
		if n > 0 {
			statement.WriteByte(',')
		}
		args = appendRow(&statement, args, &rows[i])
	}
	// INSERT IGNORE would cut values to fit.
	statement.WriteString(" ON DUPLICATE KEY UPDATE id = id")
	return statement.String(), args
}

// insertIn inserts the picked rows in a transaction.
func (s *Store) insertIn(ctx context.Context, tx *sql.Tx, rows []delivery.Insert, pick []int) error {
	for len(pick) > 0 {
		n := fittingStatement(rows, pick, s.maxPacket()/2)
		statement, args := insertStatement(rows, pick[:n])
		if _, err := tx.ExecContext(ctx, statement, args...); err != nil {
			return err
		}
		pick = pick[n:]
	}
	return nil
}

// insertChunk inserts the picked rows with one statement. If the server refuses a value it splits
// them in halves, so that one bad row does not block others.
func (s *Store) insertChunk(ctx context.Context, rows []delivery.Insert, pick []int) ([]delivery.Rejected, error) {
	statement, args := insertStatement(rows, pick)
	_, err := s.exec(ctx, fmt.Sprintf("insert %d deliveries", len(pick)), statement, args...)
	switch {
	case err == nil:
		return nil, nil
	case !isNumber(err, errDataTooLong, errIncorrectString, errOutOfRange, errIncorrectValue):
		return nil, err
	case len(pick) == 1:
		s.logRefused(ctx, rows[pick[0]].ID, err)
		return []delivery.Rejected{{Index: pick[0], ID: rows[pick[0]].ID, Column: "(refused by the server)"}}, nil
	}
	half := len(pick) / 2
	first, err1 := s.insertChunk(ctx, rows, pick[:half])
	second, err2 := s.insertChunk(ctx, rows, pick[half:])
	return append(first, second...), errors.Join(err1, err2)
}

// logRefused logs refused rows at most once a minute, with their number since the last time.
func (s *Store) logRefused(ctx context.Context, id delivery.ID, err error) {
	s.refused.Add(1)
	s.refusals.Do(func() {
		s.log.ErrorContext(ctx, "database refused deliveries", "count", s.refused.Swap(0), "webhook_id", id.String(), "error", err)
	})
}

func appendRow(statement *strings.Builder, args []any, row *delivery.Insert) []any {
	var token any
	if row.State == delivery.Leased {
		token = row.Token[:]
	}
	args = append(args, row.ID[:], uint8(row.Kind), row.RuleID, uint8(row.State))
	if row.State.Ended() {
		statement.WriteString("(?,?,?,?,NULL,")
	} else {
		statement.WriteString("(?,?,?,?,DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND),")
		args = append(args, micros(row.Delay))
	}
	statement.WriteString("?,?,?,?,?,?,?,?,?,?,?,?,UTC_TIMESTAMP(3),UTC_TIMESTAMP(3))")
	traceparent := row.Traceparent
	if !event.ValidTraceparent(traceparent) {
		traceparent = ""
	}
	return append(args, token, small(row.Claims), small(row.Attempts), string(row.Reason), small(row.LastStatus),
		valid(row.EventType), valid(row.EventID), timeOrNull(row.EventTime, time.Microsecond), uint8(row.Format), len(row.Body),
		bytesOf(row.Body), traceparent)
}
