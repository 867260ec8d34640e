package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Selection selects deliveries. The zero Selection selects all. Times are compared with the time of
// a row's last change, which for an ended row is when it ended.
type Selection struct {
	States       []delivery.State // none: all
	Lane         *delivery.Lane   // nil: all
	EventType    string           // "": all
	Since, Until time.Time        // from Since to before Until; zero: no bound
}

// where returns the conditions for rows of one state, for use with ix_state.
func (f *Selection) where(state delivery.State) (where string, args []any) {
	where, args = " WHERE state = ?", []any{state}
	if !f.Since.IsZero() {
		where, args = where+" AND updated_at >= ?", append(args, f.Since.UTC())
	}
	if !f.Until.IsZero() {
		where, args = where+" AND updated_at < ?", append(args, f.Until.UTC())
	}
	if f.Lane != nil {
		where, args = where+" AND kind = ? AND rule_id = ?", append(args, f.Lane.Kind, f.Lane.RuleID)
	}
	if f.EventType != "" {
		where, args = where+" AND event_type = ?", append(args, valid(f.EventType))
	}
	return where, args
}

// Summary is a row without its body, which may be large and holds learners' data.
type Summary struct {
	delivery.Row // Body is nil, Token zero

	BodySize int64 // bytes of the body as stored; 0 if it was not kept
}

const (
	columns = `SELECT id, webhook_id, kind, rule_id, state, due_at, claims, attempts, reason, last_status, event_type, event_id,
  event_time, body_format, created_at, updated_at, `
	rowColumns     = columns + "lease_token, body, traceparent FROM webhook_dispatcher_delivery "
	summaryColumns = columns + "body_size FROM webhook_dispatcher_delivery "
)

func scanColumns(rows *sql.Rows, row *delivery.Row, more ...any) error {
	return rows.Scan(append([]any{
		&row.RowID, into(row.ID[:]), &row.Kind, &row.RuleID, &row.State, orZero(&row.DueAt), &row.Claims, &row.Attempts, &row.Reason,
		&row.LastStatus, &row.EventType, &row.EventID, orZero(&row.EventTime), &row.Format, &row.CreatedAt, &row.UpdatedAt,
	}, more...)...)
}

func scanRow(rows *sql.Rows, row *delivery.Row) error {
	return scanColumns(rows, row, into(row.Token[:]), &row.Body, &row.Traceparent)
}

func scanSummary(rows *sql.Rows, row *Summary) error {
	return scanColumns(rows, &row.Row, &row.BodySize)
}

// List returns up to limit rows that f selects, the latest changed first, and whether there are
// more. It reads each state's index from its new end, so its cost follows limit unless Lane or
// EventType exclude most rows. limit must be above 0.
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
		some, err := read(ctx, s, what, scanSummary,
			summaryColumns+"FORCE INDEX (ix_state)"+where+" ORDER BY updated_at DESC, id DESC LIMIT ?", append(args, limit+1)...)
		if err != nil {
			return nil, false, err
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

// EndedRow is a position of a walk over ended rows; the zero EndedRow is before the first.
type EndedRow struct {
	id uint64
	at time.Time
}

// where restricts conditions to rows after r, by when they ended and then by number.
func (r EndedRow) where(where string, args []any) (string, []any) {
	if r.id == 0 {
		return where, args
	}
	return where + " AND updated_at >= ? AND (updated_at > ? OR id > ?)", append(slices.Clip(args), r.at, r.at, r.id)
}

// EndedPage returns up to limit rows, 500 at most, that ended in state and that f selects, and
// where to go on; f.States is ignored. They come in the order in which they ended. Fewer than limit
// means that there are no more. f.Until is required and must not be in the future: a row that ends
// again during the walk would come again.
func (s *Store) EndedPage(
	ctx context.Context, state delivery.State, f Selection, after EndedRow, limit int,
) (page []Summary, last EndedRow, err error) {
	if !state.Ended() || f.Until.IsZero() || limit <= 0 {
		return nil, after, errors.New("page ended rows: needs an ended state, an end of the time range and a limit above 0")
	}
	where, args := after.where(f.where(state))
	page, err = read(ctx, s, fmt.Sprintf("page %s rows", state), scanSummary,
		summaryColumns+"FORCE INDEX (ix_state)"+where+" ORDER BY updated_at, id LIMIT ?", append(args, capped(limit))...)
	if n := len(page); n > 0 {
		after = EndedRow{id: page[n-1].RowID, at: page[n-1].UpdatedAt}
	}
	return page, after, err
}

// Get returns the row of a delivery, and whether there is one.
func (s *Store) Get(ctx context.Context, id delivery.ID) (delivery.Row, bool, error) {
	return readOne(ctx, s, "read delivery "+id.String(), scanRow, rowColumns+"WHERE webhook_id = ?", id[:])
}

// Summary returns the row of a delivery without its body, and whether there is one.
func (s *Store) Summary(ctx context.Context, id delivery.ID) (Summary, bool, error) {
	return readOne(ctx, s, "read a delivery", scanSummary, summaryColumns+"WHERE webhook_id = ?", id[:])
}

// SummaryOfRow is Summary by the number of a row.
func (s *Store) SummaryOfRow(ctx context.Context, row uint64) (Summary, bool, error) {
	return readOne(ctx, s, "read a delivery", scanSummary, summaryColumns+"WHERE id = ?", row)
}

// Waiting counts the rows of a lane that have not ended.
func (s *Store) Waiting(ctx context.Context, lane delivery.Lane) (rows int, err error) {
	rows, _, err = readOne(ctx, s, "count the waiting rows of "+name(lane), scalar[int],
		`SELECT COUNT(*) FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim)
  WHERE kind = ? AND rule_id = ? AND due_at IS NOT NULL`, lane.Kind, lane.RuleID)
	return rows, err
}

// Now returns the database's time, to the millisecond.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	now, _, err = readOne(ctx, s, "read the database's time", scalar[time.Time], "SELECT UTC_TIMESTAMP(3)")
	return now, err
}

// Standing is the state of a row, as far as a replay needs to know it.
type Standing struct {
	RowID uint64
	State delivery.State
	Kept  bool // it has a body
}

// Standings returns the standing of each delivery that has a row.
func (s *Store) Standings(ctx context.Context, ids []delivery.ID) (map[delivery.ID]Standing, error) {
	standings := make(map[delivery.ID]Standing)
	for chunk := range slices.Chunk(ids, maxRows) {
		_, err := read(ctx, s, fmt.Sprintf("look for the rows of %d deliveries", len(chunk)), func(rows *sql.Rows, one *Standing) error {
			var id delivery.ID
			err := rows.Scan(into(id[:]), &one.RowID, &one.State, &one.Kept)
			standings[id] = *one
			return err
		}, "SELECT webhook_id, id, state, body_size > 0 FROM webhook_dispatcher_delivery WHERE webhook_id IN "+list(len(chunk)),
			arguments(chunk, func(id *delivery.ID) any { return id[:] })...)
		if err != nil {
			return nil, err
		}
	}
	return standings, nil
}
