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

// Selection selects deliveries; the zero Selection all. Its times apply to a row's last change,
// which for an ended row is its end.
type Selection struct {
	States       []delivery.State // none: all
	Lane         *delivery.Lane   // nil: all
	EventType    string           // "": all
	Since, Until time.Time        // from Since to before Until; zero: no bound
}

// where returns the conditions for rows of a state, for use with ix_state.
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

// Summary is a row without its body, which may be large and contains learners' data.
type Summary struct {
	delivery.Row // Body is nil, Token zero

	BodySize int64 // as stored; 0 if it was not kept
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

// List returns up to limit (above 0) selected rows, last changed first, and whether there are more.
// It reads the newest end of each state's index, so its cost follows limit unless Lane or EventType
// exclude most rows.
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
	// A row whose state changed between two queries may appear twice.
	seen := make(map[uint64]bool, len(found))
	found = slices.DeleteFunc(found, func(row Summary) bool {
		twice := seen[row.RowID]
		seen[row.RowID] = true
		return twice
	})
	return found[:min(limit, len(found))], len(found) > limit, nil
}

// Summary returns a delivery's row without its body, and whether it exists.
func (s *Store) Summary(ctx context.Context, id delivery.ID) (Summary, bool, error) {
	return s.summary(ctx, "WHERE webhook_id = ?", id[:])
}

// SummaryOfRow is Summary by row number.
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
