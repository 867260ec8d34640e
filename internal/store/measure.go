package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// maxCounted is where counting dead rows stops.
const maxCounted = 2_000_000

// laneSize is the waiting rows of a lane.
type laneSize struct {
	lane  delivery.Lane
	rows  int64
	bytes int64
	due   sql.NullTime
}

// MeasureLanes counts the waiting rows of each lane and the dead rows, and writes the numbers to
// the lane records. If a replica began to within the last `every`, or another overtakes this one,
// measured is false and nothing is written.
//
// It reads only indexes, without locks, but their whole waiting part: about a second per million
// rows.
func (s *Store) MeasureLanes(ctx context.Context, every time.Duration) (measured bool, err error) {
	const what = "measure lanes"
	began, ours, err := s.beginMeasuring(ctx, what, every)
	if err != nil || !ours {
		return false, err
	}
	sizes, dead, err := s.laneSizes(ctx)
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, clean(err))
	}
	err = s.transaction(ctx, what+": write the numbers", func(tx *sql.Tx) error {
		// Under the marker's lock, so as not to overwrite newer numbers.
		var newest sql.NullTime
		if err := tx.QueryRowContext(ctx, `SELECT measured_at FROM webhook_dispatcher_lane
  WHERE kind = 0 AND rule_id = 0 FOR UPDATE`).Scan(&newest); err != nil {
			return err
		}
		if measured = newest.Valid && newest.Time.Equal(began); !measured {
			return nil
		}
		return writeSizes(ctx, tx, began, sizes, dead)
	})
	return measured && err == nil, err
}

// beginMeasuring advances the marker, unless it is recent. The replica that advances it measures.
func (s *Store) beginMeasuring(ctx context.Context, what string, every time.Duration) (began time.Time, ours bool, err error) {
	err = s.transaction(ctx, what, func(tx *sql.Tx) error {
		ours = false
		if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_lane (kind, rule_id) VALUES (0, 0)
  ON DUPLICATE KEY UPDATE kind = kind`); err != nil {
			return err
		}
		var newest sql.NullTime
		if err := tx.QueryRowContext(ctx, `SELECT measured_at, UTC_TIMESTAMP(3) FROM webhook_dispatcher_lane
  WHERE kind = 0 AND rule_id = 0 FOR UPDATE`).Scan(&newest, &began); err != nil {
			return err
		}
		began = began.Truncate(time.Millisecond) // as the column; the embedded database returns more digits
		// A marker in the future was set before the server's clock went back.
		if age := began.Sub(newest.Time); newest.Valid && age >= 0 && age < every {
			return nil
		}
		ours = true
		_, err := tx.ExecContext(ctx, "UPDATE webhook_dispatcher_lane SET measured_at = ? WHERE kind = 0 AND rule_id = 0", began)
		return err
	})
	return began, ours && err == nil, err
}

// laneSizes counts, including uncommitted changes. The server then need not look up in the table,
// for rows that change all the time, which version of an index entry is current.
func (s *Store) laneSizes(ctx context.Context) (sizes []laneSize, dead int64, err error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadUncommitted, ReadOnly: true})
	if err != nil {
		return nil, 0, err
	}
	defer tx.Rollback() //nolint:errcheck // it has changed nothing
	rows, err := tx.QueryContext(ctx, `SELECT kind, rule_id, COUNT(*), CAST(SUM(body_size) AS SIGNED), MIN(due_at)
  FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim) WHERE due_at IS NOT NULL GROUP BY kind, rule_id`)
	sizes, err = collect(rows, err, func(rows *sql.Rows, l *laneSize) error {
		return rows.Scan(&l.lane.Kind, &l.lane.RuleID, &l.rows, &l.bytes, &l.due)
	})
	if err != nil {
		return nil, 0, err
	}
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT updated_at FROM webhook_dispatcher_delivery FORCE INDEX (ix_state)
  WHERE state = ? LIMIT ?) AS counted`, uint8(delivery.Dead), maxCounted).Scan(&dead)
	return sizes, dead, err
}

// writeSizes updates the records of lanes that have or had rows, and the number of dead rows.
func writeSizes(ctx context.Context, tx *sql.Tx, began time.Time, sizes []laneSize, dead int64) error {
	rows, err := tx.QueryContext(ctx, "SELECT kind, rule_id FROM webhook_dispatcher_lane WHERE kind > 0 AND waiting_rows > 0")
	had, err := collect(rows, err, func(rows *sql.Rows, l *delivery.Lane) error { return rows.Scan(&l.Kind, &l.RuleID) })
	if err != nil {
		return err
	}
	full := make(map[delivery.Lane]bool, len(sizes))
	for _, l := range sizes {
		full[l.lane] = true
	}
	for _, lane := range had {
		if !full[lane] {
			sizes = append(sizes, laneSize{lane: lane})
		}
	}
	sizes = append(sizes, laneSize{lane: deadLane, rows: dead})
	// In key order, like everything that locks several.
	slices.SortFunc(sizes, func(a, b laneSize) int {
		return cmp.Or(cmp.Compare(a.lane.Kind, b.lane.Kind), cmp.Compare(a.lane.RuleID, b.lane.RuleID))
	})
	for chunk := range slices.Chunk(sizes, maxRows) {
		args := make([]any, 0, 6*len(chunk))
		for _, l := range chunk {
			args = append(args, uint8(l.lane.Kind), l.lane.RuleID, l.rows, l.bytes, l.due, began)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_lane
  (kind, rule_id, waiting_rows, waiting_bytes, oldest_due, measured_at)
  VALUES `+strings.Repeat("(?, ?, ?, ?, ?, ?), ", len(chunk)-1)+`(?, ?, ?, ?, ?, ?)
  ON DUPLICATE KEY UPDATE waiting_rows = VALUES(waiting_rows), waiting_bytes = VALUES(waiting_bytes),
  oldest_due = VALUES(oldest_due), measured_at = VALUES(measured_at)`, args...); err != nil {
			return err
		}
	}
	if err := forgetGone(ctx, tx); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM webhook_dispatcher_lane
  WHERE kind > 0 AND waiting_rows = 0 AND failing_since IS NULL AND pause_reason = ''`)
	return err
}

// forgetGone removes the marks of deleted rules: an id may be used again.
func forgetGone(ctx context.Context, tx *sql.Tx) error {
	// A plain read locks no rows of the LMS.
	rows, err := tx.QueryContext(ctx, `SELECT lane.rule_id FROM webhook_dispatcher_lane AS lane
  LEFT JOIN openedx_webhooks_webhook AS rule ON rule.id = lane.rule_id
  WHERE lane.kind = ? AND rule.id IS NULL AND (lane.failing_since IS NOT NULL OR lane.pause_reason <> '') ORDER BY lane.rule_id LIMIT ?`,
		uint8(delivery.KindWebhook), maxRows)
	gone, err := collect(rows, err, scanID)
	if err != nil || len(gone) == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE webhook_dispatcher_lane SET failing_since = NULL, pause_reason = '' WHERE kind = ? AND rule_id IN "+
		list(len(gone)), append([]any{uint8(delivery.KindWebhook)}, gone...)...)
	return err
}
