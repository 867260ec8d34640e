package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const maxResponse = 4096

// LogAttempts appends to the attempt log. It cuts responses over 4096 bytes and texts over their
// column's size, and drops RetryAfter. After an error some attempts may have been logged.
func (s *Store) LogAttempts(ctx context.Context, attempts []delivery.Attempt) error {
	limit := s.maxPacket() / 2
	for len(attempts) > 0 {
		n, size := 0, 0
		for n < len(attempts) && n < maxRows {
			size += 2*min(len(attempts[n].Response), maxResponse) + 1024
			if n > 0 && size > limit {
				break
			}
			n++
		}
		if err := s.logChunk(ctx, attempts[:n]); err != nil {
			return err
		}
		attempts = attempts[n:]
	}
	return nil
}

func (s *Store) logChunk(ctx context.Context, attempts []delivery.Attempt) error {
	var statement strings.Builder
	statement.WriteString(`INSERT INTO webhook_dispatcher_attempt
  (webhook_id, kind, rule_id, number, at, duration_ms, status, error_class, event_type, response) VALUES `)
	args := make([]any, 0, 10*len(attempts))
	for i := range attempts {
		a := &attempts[i]
		if i > 0 {
			statement.WriteByte(',')
		}
		at := timeOrNull(a.At, time.Millisecond)
		if at == nil {
			statement.WriteString("(?,?,?,?,UTC_TIMESTAMP(3),?,?,?,?,?)")
			args = append(args, a.ID[:], uint8(a.Kind), a.RuleID, small(a.Number))
		} else {
			statement.WriteString("(?,?,?,?,?,?,?,?,?,?)")
			args = append(args, a.ID[:], uint8(a.Kind), a.RuleID, small(a.Number), at)
		}
		class := string(a.Class)
		if !isASCII(class) {
			class = string(delivery.ClassOther)
		}
		args = append(args, max(0, min(a.Duration.Milliseconds(), math.MaxUint32)), small(a.Status), delivery.Cut(class, 32),
			delivery.Cut(valid(a.EventType), delivery.MaxText), bytesOf(a.Response[:min(len(a.Response), maxResponse)]))
	}
	_, err := s.exec(ctx, fmt.Sprintf("log %d attempts", len(attempts)), statement.String(), args...)
	return err
}

// Attempts returns up to 1000 logged attempts of a delivery, oldest first.
func (s *Store) Attempts(ctx context.Context, id delivery.ID) ([]delivery.Attempt, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT kind, rule_id, number, at, duration_ms, status, error_class, event_type, response
  FROM webhook_dispatcher_attempt WHERE webhook_id = ? ORDER BY id LIMIT 1000`, id[:])
	attempts, err := collect(rows, err, func(rows *sql.Rows, a *delivery.Attempt) error {
		var millis int64
		err := rows.Scan(&a.Kind, &a.RuleID, &a.Number, &a.At, &millis, &a.Status, &a.Class, &a.EventType, &a.Response)
		a.ID, a.Duration = id, time.Duration(millis)*time.Millisecond
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read attempts of %s: %w", id, clean(err))
	}
	return attempts, nil
}
