package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// deadLane is the key under which the count of dead rows is stored, next to those of lanes.
var deadLane = delivery.Lane{RuleID: int32(delivery.Dead)}

// maxCounted is where counting dead rows stops.
const maxCounted = 2_000_000

// laneSize is the work that waits in a lane.
type laneSize struct {
	lane        delivery.Lane
	rows, bytes int64
	due         sql.NullTime
}

// MeasureLanes counts what waits in each lane and the dead rows, and writes the numbers to the lane
// records. If a replica has begun to within the time every, it does nothing and measured is false,
// as it is if another overtook this one.
//
// It reads only indexes, without locks, but the whole part that waits: about a second for a million
// rows.
func (s *Store) MeasureLanes(ctx context.Context, every time.Duration) (measured bool, err error) {
	began, err := s.beginMeasuring(ctx, every)
	if err != nil || began.IsZero() {
		return false, err
	}
	sizes, err := s.laneSizes(ctx)
	if err != nil {
		return false, err
	}
	return transaction(ctx, s, "measure lanes: write the numbers", func(tx *sql.Tx) (bool, error) {
		// Under the lock of the marker, so that numbers never replace newer ones.
		if newest, err := lockMarker(ctx, tx); err != nil || !newest.Equal(began) {
			return false, err
		}
		return true, writeSizes(ctx, tx, began, sizes)
	})
}

// beginMeasuring moves the marker on. It returns zero if it is not yet time.
func (s *Store) beginMeasuring(ctx context.Context, every time.Duration) (began time.Time, err error) {
	return transaction(ctx, s, "measure lanes", func(tx *sql.Tx) (time.Time, error) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_lane (kind, rule_id) VALUES (0, 0)
  ON DUPLICATE KEY UPDATE kind = kind`); err != nil {
			return time.Time{}, err
		}
		newest, err := lockMarker(ctx, tx)
		if err != nil {
			return time.Time{}, err
		}
		began, err := now(ctx, tx, time.Millisecond)
		// A marker in the future was set before the server's clock was put back.
		if age := began.Sub(newest); err != nil || age >= 0 && age < every {
			return time.Time{}, err
		}
		_, err = tx.ExecContext(ctx, "UPDATE webhook_dispatcher_lane SET measured_at = ? WHERE kind = 0 AND rule_id = 0", began)
		return began, err
	})
}

// lockMarker returns when the newest measurement began, zero if there was none.
func lockMarker(ctx context.Context, tx *sql.Tx) (newest time.Time, err error) {
	err = tx.QueryRowContext(ctx, `SELECT measured_at FROM webhook_dispatcher_lane
  WHERE kind = 0 AND rule_id = 0 FOR UPDATE`).Scan(orZero(&newest))
	return newest, err
}

// laneSizes counts, uncommitted rows included: the numbers are good enough, and the server need not
// look up in the table which version of an index entry counts.
func (s *Store) laneSizes(ctx context.Context) ([]laneSize, error) {
	return transactionAt(ctx, s, uncommitted, "measure lanes", func(tx *sql.Tx) ([]laneSize, error) {
		sizes, err := query(ctx, tx, func(rows *sql.Rows, l *laneSize) error {
			return rows.Scan(&l.lane.Kind, &l.lane.RuleID, &l.rows, &l.bytes, &l.due)
		}, `SELECT kind, rule_id, COUNT(*), CAST(SUM(body_size) AS SIGNED), MIN(due_at)
  FROM webhook_dispatcher_delivery FORCE INDEX (ix_claim) WHERE due_at IS NOT NULL GROUP BY kind, rule_id`)
		if err != nil {
			return nil, err
		}
		dead := laneSize{lane: deadLane}
		err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT updated_at FROM webhook_dispatcher_delivery FORCE INDEX (ix_state)
  WHERE state = ? LIMIT ?) AS counted`, delivery.Dead, maxCounted).Scan(&dead.rows)
		return append(sizes, dead), err
	})
}

// writeSizes updates the records of lanes that have rows, of those that had some, and of dead rows.
func writeSizes(ctx context.Context, tx *sql.Tx, began time.Time, sizes []laneSize) error {
	had, err := query(ctx, tx, func(rows *sql.Rows, l *laneSize) error { return rows.Scan(&l.lane.Kind, &l.lane.RuleID) },
		"SELECT kind, rule_id FROM webhook_dispatcher_lane WHERE kind > 0 AND waiting_rows > 0")
	if err != nil {
		return err
	}
	// In the order of the key, as everything that locks several. Those that have rows come first,
	// so that of each lane they stay.
	sizes = append(slices.Clip(sizes), had...)
	slices.SortStableFunc(sizes, func(a, b laneSize) int {
		return cmp.Or(cmp.Compare(a.lane.Kind, b.lane.Kind), cmp.Compare(a.lane.RuleID, b.lane.RuleID))
	})
	sizes = slices.CompactFunc(sizes, func(a, b laneSize) bool { return a.lane == b.lane })
	for chunk := range slices.Chunk(sizes, maxRows) {
		args := make([]any, 0, 6*len(chunk))
		for _, l := range chunk {
			args = append(args, l.lane.Kind, l.lane.RuleID, l.rows, l.bytes, l.due, began)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO webhook_dispatcher_lane
  (kind, rule_id, waiting_rows, waiting_bytes, oldest_due, measured_at) VALUES `+tuples("(?, ?, ?, ?, ?, ?)", len(chunk))+`
  ON DUPLICATE KEY UPDATE waiting_rows = VALUES(waiting_rows), waiting_bytes = VALUES(waiting_bytes),
  oldest_due = VALUES(oldest_due), measured_at = VALUES(measured_at)`, args...); err != nil {
			return err
		}
	}
	// Marks of deleted rules: nobody else would remove them, and an id may be used again. The read
	// takes no locks, so that no row of the LMS is locked.
	if _, err := changeFound(ctx, tx, statement{`SELECT lane.rule_id FROM webhook_dispatcher_lane AS lane
  LEFT JOIN openedx_webhooks_webhook AS rule ON rule.id = lane.rule_id
  WHERE lane.kind = ? AND rule.id IS NULL AND (lane.failing_since IS NOT NULL OR lane.pause_reason <> '')
  ORDER BY lane.rule_id LIMIT ?`, []any{delivery.KindWebhook, maxRows}},
		statement{
			"UPDATE webhook_dispatcher_lane SET failing_since = NULL, pause_reason = '' WHERE kind = ? AND rule_id IN ",
			[]any{delivery.KindWebhook},
		}); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM webhook_dispatcher_lane
  WHERE kind > 0 AND waiting_rows = 0 AND failing_since IS NULL AND pause_reason = ''`)
	return err
}

// MarkFailing marks a lane: its endpoint has accepted nothing since age ago. An earlier mark stays.
func (s *Store) MarkFailing(ctx context.Context, lane delivery.Lane, age time.Duration) error {
	_, err := s.exec(ctx, "mark "+name(lane)+" as failing", `INSERT INTO webhook_dispatcher_lane
  (kind, rule_id, failing_since) VALUES (?, ?, DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND))
  ON DUPLICATE KEY UPDATE failing_since = COALESCE(failing_since, DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND))`,
		lane.Kind, lane.RuleID, micros(age), micros(age))
	return err
}

// ClearFailing removes the mark of a lane, if it has one.
func (s *Store) ClearFailing(ctx context.Context, lane delivery.Lane) error {
	_, err := s.exec(ctx, "clear the failing mark of "+name(lane), `UPDATE webhook_dispatcher_lane
  SET failing_since = NULL WHERE kind = ? AND rule_id = ? AND failing_since IS NOT NULL`, lane.Kind, lane.RuleID)
	return err
}

// LaneRecords returns what replicas share about lanes: those with a mark, a reason for a pause, or
// rows at the last measurement.
func (s *Store) LaneRecords(ctx context.Context) (all delivery.LaneRecords, err error) {
	lanes, err := read(ctx, s, "read lane records", func(rows *sql.Rows, r *delivery.LaneRecord) error {
		var failing, due, measured sql.NullTime
		var now time.Time
		err := rows.Scan(&r.Lane.Kind, &r.Lane.RuleID, &failing, &r.PauseReason, &r.Rows, &r.Bytes, &due, &measured, &now)
		if r.Failing = failing.Valid; failing.Valid {
			r.FailingFor = now.Sub(failing.Time)
		}
		if due.Valid {
			r.DueFor = now.Sub(due.Time)
		}
		if r.Lane == deadLane && measured.Valid {
			all.DeadRows, all.Measured, all.MeasuredFor = r.Rows, true, now.Sub(measured.Time)
		}
		return err
	}, `SELECT kind, rule_id, failing_since, pause_reason, waiting_rows, waiting_bytes, oldest_due, measured_at, UTC_TIMESTAMP(3)
  FROM webhook_dispatcher_lane WHERE kind > 0 OR rule_id > 0 ORDER BY kind, rule_id`)
	if err != nil {
		return delivery.LaneRecords{}, err
	}
	all.Lanes = slices.DeleteFunc(lanes, func(r delivery.LaneRecord) bool { return r.Lane == deadLane })
	return all, nil
}
