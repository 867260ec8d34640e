package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// deadLane is the key of the record with the number of dead rows.
var deadLane = delivery.Lane{RuleID: int32(delivery.Dead)}

// MarkFailing marks a lane whose endpoint has accepted nothing since age ago. An earlier mark
// stays.
func (s *Store) MarkFailing(ctx context.Context, lane delivery.Lane, age time.Duration) error {
	_, err := s.exec(ctx, fmt.Sprintf("mark %s rule %d as failing", lane.Kind, lane.RuleID), `INSERT INTO webhook_dispatcher_lane
  (kind, rule_id, failing_since) VALUES (?, ?, DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND))
  ON DUPLICATE KEY UPDATE failing_since = COALESCE(failing_since, DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND))`,
		uint8(lane.Kind), lane.RuleID, micros(age), micros(age))
	return err
}

// ClearFailing removes the mark of a lane, if it has one.
func (s *Store) ClearFailing(ctx context.Context, lane delivery.Lane) error {
	_, err := s.exec(ctx, fmt.Sprintf("clear the failing mark of %s rule %d", lane.Kind, lane.RuleID), `UPDATE webhook_dispatcher_lane
  SET failing_since = NULL WHERE kind = ? AND rule_id = ? AND failing_since IS NOT NULL`, uint8(lane.Kind), lane.RuleID)
	return err
}

// LaneRecords returns the records of lanes with a mark, a pause reason, or rows at the last
// measurement.
func (s *Store) LaneRecords(ctx context.Context) (delivery.LaneRecords, error) {
	var all delivery.LaneRecords
	rows, err := s.db.QueryContext(ctx, `SELECT kind, rule_id, failing_since, pause_reason, waiting_rows, waiting_bytes, oldest_due,
  measured_at, UTC_TIMESTAMP(3) FROM webhook_dispatcher_lane WHERE kind > 0 OR rule_id > 0 ORDER BY kind, rule_id`)
	lanes, err := collect(rows, err, func(rows *sql.Rows, r *delivery.LaneRecord) error {
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
	})
	if err != nil {
		return delivery.LaneRecords{}, fmt.Errorf("read lane records: %w", clean(err))
	}
	all.Lanes = slices.DeleteFunc(lanes, func(r delivery.LaneRecord) bool { return r.Lane == deadLane })
	return all, nil
}

// CountAttempts counts a lane's logged attempts of the last age, up to limit. It reads only the
// newest limit rows of the lane, so it may miss an attempt that was logged late.
func (s *Store) CountAttempts(ctx context.Context, lane delivery.Lane, age time.Duration, limit int) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT COUNT(CASE WHEN at >= DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) THEN 1 END) FROM
  (SELECT at FROM webhook_dispatcher_attempt FORCE INDEX (ix_rule) WHERE kind = ? AND rule_id = ? ORDER BY id DESC LIMIT ?) AS newest`,
		micros(age), uint8(lane.Kind), lane.RuleID, max(0, limit)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count attempts of %s rule %d: %w", lane.Kind, lane.RuleID, clean(err))
	}
	return n, nil
}
