package store

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// deadLane is the key under which the count of dead rows is stored, next to those of lanes.
var deadLane = delivery.Lane{RuleID: int32(delivery.Dead)}

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
