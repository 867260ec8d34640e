package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Selection chooses deliveries. The zero Selection chooses all. Times are compared with when a row last changed, which for an ended row
// is when it ended.
type Selection struct {
	// States are those to look at; none means all.
	States []delivery.State
	// Lane is that of one rule; nil means all.
	Lane *delivery.Lane
	// EventType is a whole event type; "" means all.
	EventType string
	// Since is the first moment that counts, Until the first that no longer does; zero means no bound.
	Since, Until time.Time
}

// where returns the conditions for rows of one state, for use with ix_state.
func (f *Selection) where(state delivery.State) (string, []any) {
	where, args := " WHERE state = ?", []any{uint8(state)}
	if !f.Since.IsZero() {
		where, args = where+" AND updated_at >= ?", append(args, f.Since.UTC())
	}
	if !f.Until.IsZero() {
		where, args = where+" AND updated_at < ?", append(args, f.Until.UTC())
	}
	if f.Lane != nil {
		where, args = where+" AND kind = ? AND rule_id = ?", append(args, uint8(f.Lane.Kind), f.Lane.RuleID)
	}
	if f.EventType != "" {
		where, args = where+" AND event_type = ?", append(args, valid(f.EventType))
	}
	return where, args
}

// Summary is a row without its body, which may be large and holds learners' data.
type Summary struct {
	delivery.Row // Body is nil, Token zero

	BodySize int64 // bytes of the body as stored; 0: it was not kept
}

const summaryColumns = `SELECT id, webhook_id, kind, rule_id, state, due_at, claims, attempts, reason, last_status, event_type, event_id,
  event_time, body_format, body_size, created_at, updated_at FROM webhook_dispatcher_delivery `

func scanSummary(rows *sql.Rows, row *Summary) error {
	var id []byte
	var dueAt, eventTime sql.NullTime
	err := rows.Scan(&row.RowID, &id, &row.Kind, &row.RuleID, &row.State, &dueAt, &row.Claims, &row.Attempts, &row.Reason, &row.LastStatus,
		&row.EventType, &row.EventID, &eventTime, &row.Format, &row.BodySize, &row.CreatedAt, &row.UpdatedAt)
	copy(row.ID[:], id)
	row.DueAt, row.EventTime = dueAt.Time, eventTime.Time
	return err
}

// List returns up to limit rows that f chooses, those that changed last first, and whether there are more. It reads each state's
// index from its new end, so its cost follows limit unless Lane or EventType leave most rows out. limit must be above 0.
func (s *Store) List(ctx context.Context, f Selection, limit int) (found []Summary, more bool, err error) {
	const what = "list deliveries"
	if limit <= 0 {
		return nil, false, fmt.Errorf("%s: the limit is %d, want 1 or more", what, limit)
	}
	states := f.States
	if len(states) == 0 {
		states = delivery.States()
	}
	for _, state := range states {
		where, args := f.where(state)
		rows, err := s.db.QueryContext(ctx, summaryColumns+"FORCE INDEX (ix_state)"+where+" ORDER BY updated_at DESC, id DESC LIMIT ?",
			append(args, limit+1)...)
		some, err := collect(rows, err, scanSummary)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", what, clean(err))
		}
		found = append(found, some...)
	}
	slices.SortFunc(found, func(a, b Summary) int {
		return cmp.Or(b.UpdatedAt.Compare(a.UpdatedAt), cmp.Compare(b.RowID, a.RowID))
	})
	// A row that changed its state between two queries may be there twice.
	seen := make(map[uint64]bool, len(found))
	found = slices.DeleteFunc(found, func(row Summary) bool {
		twice := seen[row.RowID]
		seen[row.RowID] = true
		return twice
	})
	return found[:min(limit, len(found))], len(found) > limit, nil
}

// Summary returns the row of a delivery without its body, and whether there is one.
func (s *Store) Summary(ctx context.Context, id delivery.ID) (Summary, bool, error) {
	return s.summary(ctx, "WHERE webhook_id = ?", id[:])
}

// SummaryOfRow does what Summary does, for a row's number.
func (s *Store) SummaryOfRow(ctx context.Context, row uint64) (Summary, bool, error) {
	return s.summary(ctx, "WHERE id = ?", row)
}

func (s *Store) summary(ctx context.Context, where string, key any) (Summary, bool, error) {
	rows, err := s.db.QueryContext(ctx, summaryColumns+where, key)
	found, err := collect(rows, err, scanSummary)
	if err != nil {
		return Summary{}, false, fmt.Errorf("read a delivery: %w", clean(err))
	}
	if len(found) == 0 {
		return Summary{}, false, nil
	}
	return found[0], true, nil
}

// Now returns the database's time, to the millisecond.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	if err := s.db.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(3)").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("read the database's time: %w", clean(err))
	}
	return now, nil
}
