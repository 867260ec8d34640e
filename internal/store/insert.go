package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// Insert makes rows. An existing row with the same ID, in any state, stays as it is. It returns nil
// only if every row is in the database; after an error some may be there, and inserting them again
// does no harm.
//
// Text that is not UTF-8 is stored with U+FFFD, an event time that no DATETIME can hold as none,
// and an invalid traceparent as empty. Rows that do not fit (event type or id over 191 characters,
// body over MaxBody) do not hold up the others; the error is then a *delivery.RejectedError.
func (s *Store) Insert(ctx context.Context, rows []delivery.Insert) error {
	if err := checkStates("insert deliveries", rows, delivery.Pending, delivery.Leased, delivery.Dead); err != nil {
		return err
	}
	pick, rejected := s.sorted(rows)
	for len(pick) > 0 {
		refused := make(map[delivery.ID]int) // their indices
		for chunk := range s.insertChunks(rows, firsts(rows, pick)) {
			more, err := s.insertChunk(ctx, rows, chunk)
			if err != nil {
				return err
			}
			rejected = append(rejected, more...)
			for _, r := range more {
				refused[r.ID] = r.Index
			}
		}
		// Where the server refuses the first row of an ID, the next one is not there yet.
		pick = slices.DeleteFunc(pick, func(i int) bool {
			index, again := refused[rows[i].ID]
			return !again || i <= index
		})
	}
	if len(rejected) > 0 {
		return &delivery.RejectedError{Rows: rejected}
	}
	return nil
}

// checkStates refuses rows in a state in which they cannot begin.
func checkStates(what string, rows []delivery.Insert, allowed ...delivery.State) error {
	for i := range rows {
		if row := &rows[i]; !slices.Contains(allowed, row.State) {
			return fmt.Errorf("%s: %s begins in one of the states %v, not %s", what, row.ID, allowed, row.State)
		}
		if rows[i].State == delivery.Leased && rows[i].Token == (delivery.Token{}) {
			return fmt.Errorf("%s: %s is leased and needs a token", what, rows[i].ID)
		}
	}
	return nil
}

// pick returns the indices of the rows that are to be stored: of rows with the same ID the first.
// Rows that can never be stored are rejected.
func (s *Store) pick(rows []delivery.Insert) (pick []int, rejected []delivery.Rejected) {
	pick, rejected = s.sorted(rows)
	return firsts(rows, pick), rejected
}

// firsts returns the first index of each ID; indices are sorted.
func firsts(rows []delivery.Insert, indices []int) []int {
	return slices.CompactFunc(slices.Clone(indices), func(a, b int) bool { return rows[a].ID == rows[b].ID })
}

// sorted returns the indices of the rows that can be stored, by ID, so that replicas which write
// the same rows lock them in the same order. Rows that can never be stored are rejected.
func (s *Store) sorted(rows []delivery.Insert) (pick []int, rejected []delivery.Rejected) {
	pick = make([]int, 0, len(rows))
	for i := range rows {
		if fault := s.fault(&rows[i]); fault != nil {
			fault.Index, fault.ID = i, rows[i].ID
			rejected = append(rejected, *fault)
			continue
		}
		pick = append(pick, i)
	}
	slices.SortStableFunc(pick, func(a, b int) int { return bytes.Compare(rows[a].ID[:], rows[b].ID[:]) })
	return pick, rejected
}

// fault returns why row can never be stored, or nil.
func (s *Store) fault(row *delivery.Insert) *delivery.Rejected {
	for _, column := range [...]struct{ name, text string }{{"event_type", row.EventType}, {"event_id", row.EventID}} {
		if n := utf8.RuneCountInString(valid(column.text)); n > delivery.MaxText {
			return &delivery.Rejected{Column: column.name, Size: n, Limit: delivery.MaxText}
		}
	}
	if n, limit := len(row.Body), s.MaxBody(); n > limit {
		return &delivery.Rejected{Column: "body", Size: n, Limit: limit}
	}
	return nil
}

// insertChunks yields the picked rows in runs that fit a statement, with every byte escaped.
func (s *Store) insertChunks(rows []delivery.Insert, pick []int) iter.Seq[[]int] {
	return chunks(s, pick, func(i *int) int {
		row := &rows[*i]
		return 2*(len(row.Body)+len(row.EventType)+len(row.EventID)) + 512
	})
}

// insertChunk inserts the picked rows with one statement. If the server refuses a value, it gets
// the rows in halves, so that a row which passed the checks wrongly does not hold up the others.
func (s *Store) insertChunk(ctx context.Context, rows []delivery.Insert, pick []int) ([]delivery.Rejected, error) {
	text, args := insertStatement(rows, pick)
	_, err := s.exec(ctx, fmt.Sprintf("insert %d deliveries", len(pick)), text, args...)
	switch {
	case err == nil:
		return nil, nil
	case !isNumber(err, errDataTooLong, errIncorrectString, errOutOfRange, errIncorrectValue):
		return nil, err
	case len(pick) == 1:
		id := rows[pick[0]].ID
		s.refused.Add(1)
		s.refusals.Do(func() {
			s.log.ErrorContext(ctx, "database refused deliveries", "count", s.refused.Swap(0), "webhook_id", id.String(), "error", err)
		})
		return []delivery.Rejected{{Index: pick[0], ID: id, Column: "(refused by the server)"}}, nil
	}
	half := len(pick) / 2
	first, err1 := s.insertChunk(ctx, rows, pick[:half])
	second, err2 := s.insertChunk(ctx, rows, pick[half:])
	return append(first, second...), errors.Join(err1, err2)
}

// insertStatement inserts the picked rows and leaves those as they are whose ID exists.
func insertStatement(rows []delivery.Insert, pick []int) (text string, args []any) {
	args = make([]any, 0, 17*len(pick))
	for _, i := range pick {
		args = appendRow(args, &rows[i])
	}
	// Not INSERT IGNORE, which would cut values to fit.
	return `INSERT INTO webhook_dispatcher_delivery (webhook_id, kind, rule_id, state, due_at, lease_token, claims, attempts,
  reason, last_status, event_type, event_id, event_time, body_format, body_size, body, traceparent, created_at, updated_at)
  VALUES ` + tuples(`(?,?,?,?,DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND),?,?,?,?,?,?,?,?,?,?,?,?,
  UTC_TIMESTAMP(3),UTC_TIMESTAMP(3))`, len(pick)) + " ON DUPLICATE KEY UPDATE id = id", args
}

func appendRow(args []any, row *delivery.Insert) []any {
	var token, delay any
	if row.State == delivery.Leased {
		token = row.Token[:]
	}
	if !row.State.Ended() {
		delay = micros(row.Delay) // else NULL, and so is due_at
	}
	traceparent := row.Traceparent
	if !event.ValidTraceparent(traceparent) {
		traceparent = ""
	}
	return append(args, row.ID[:], row.Kind, row.RuleID, row.State, delay, token, small(row.Claims), small(row.Attempts),
		row.Reason, small(row.LastStatus), valid(row.EventType), valid(row.EventID), timeOrNull(row.EventTime, time.Microsecond),
		row.Format, len(row.Body), bytesOf(row.Body), traceparent)
}
