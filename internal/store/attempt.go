package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const maxResponse = 4096

// LogAttempts appends to the attempt log. Responses over 4096 bytes and texts over their column are
// cut, and RetryAfter is not kept. After an error some attempts may have been logged.
func (s *Store) LogAttempts(ctx context.Context, attempts []delivery.Attempt) error {
	for chunk := range chunks(s, attempts, func(a *delivery.Attempt) int { return 2*min(len(a.Response), maxResponse) + 1024 }) {
		args := make([]any, 0, 10*len(chunk))
		for i := range chunk {
			args = appendAttempt(args, &chunk[i])
		}
		if _, err := s.exec(ctx, fmt.Sprintf("log %d attempts", len(chunk)), `INSERT INTO webhook_dispatcher_attempt
  (webhook_id, kind, rule_id, number, at, duration_ms, status, error_class, event_type, response)
  VALUES `+tuples("(?,?,?,?,COALESCE(?,UTC_TIMESTAMP(3)),?,?,?,?,?)", len(chunk)), args...); err != nil {
			return err
		}
	}
	return nil
}

func appendAttempt(args []any, a *delivery.Attempt) []any {
	class := string(a.Class)
	if !isASCII(class) {
		class = string(delivery.ClassOther)
	}
	return append(args, a.ID[:], a.Kind, a.RuleID, small(a.Number), timeOrNull(a.At, time.Millisecond),
		max(0, min(a.Duration.Milliseconds(), math.MaxUint32)), small(a.Status), delivery.Cut(class, 32),
		delivery.Cut(valid(a.EventType), delivery.MaxText), bytesOf(a.Response[:min(len(a.Response), maxResponse)]))
}

// Attempts returns the logged attempts of a delivery, oldest first, 1000 at most.
func (s *Store) Attempts(ctx context.Context, id delivery.ID) ([]delivery.Attempt, error) {
	return read(ctx, s, "read attempts of "+id.String(), func(rows *sql.Rows, a *delivery.Attempt) error {
		var millis int64
		err := rows.Scan(&a.Kind, &a.RuleID, &a.Number, &a.At, &millis, &a.Status, &a.Class, &a.EventType, &a.Response)
		a.ID, a.Duration = id, time.Duration(millis)*time.Millisecond
		return err
	}, `SELECT kind, rule_id, number, at, duration_ms, status, error_class, event_type, response
  FROM webhook_dispatcher_attempt WHERE webhook_id = ? ORDER BY id LIMIT 1000`, id[:])
}

// CountAttempts counts the logged attempts of a lane that are younger than age, up to limit. It
// looks only at the lane's newest limit rows, so it may miss an attempt that was logged late.
func (s *Store) CountAttempts(ctx context.Context, lane delivery.Lane, age time.Duration, limit int) (n int, err error) {
	n, _, err = readOne(ctx, s, "count attempts of "+name(lane), scalar[int],
		`SELECT COUNT(CASE WHEN at >= DATE_SUB(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) THEN 1 END) FROM
  (SELECT at FROM webhook_dispatcher_attempt FORCE INDEX (ix_rule) WHERE kind = ? AND rule_id = ? ORDER BY id DESC LIMIT ?) AS newest`,
		micros(age), lane.Kind, lane.RuleID, max(0, limit))
	return n, err
}
