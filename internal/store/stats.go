package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// StateStats counts the rows of a state.
type StateStats struct {
	// Rows stops at MaxCounted.
	Rows int
	// Oldest is when the row that has been in the state longest came to it; zero where there is none.
	Oldest time.Time
}

// LaneStats is the work that waits in a lane: rows pending and leased.
type LaneStats struct {
	Lane  delivery.Lane
	Rows  int
	Bytes int64 // of bodies
	// DueAt is when the lane's first row is visible.
	DueAt time.Time
}

// Stats is the queue at one moment.
type Stats struct {
	Now    time.Time // the database's
	States map[delivery.State]StateStats
	Lanes  []LaneStats
}

// MaxCounted is where counting rows of a state stops.
const MaxCounted = 2_000_000

// QueueStats reads the queue. It reads indexes alone, never bodies, but all of the part that waits: a second or so for a million
// rows. For gauges, one replica, every half minute.
func (s *Store) QueueStats(ctx context.Context) (Stats, error) {
	stats := Stats{States: make(map[delivery.State]StateStats)}
	fail := func(err error) (Stats, error) { return Stats{}, fmt.Errorf("read queue: %w", clean(err)) }
	rows, err := s.db.QueryContext(ctx, `SELECT kind, rule_id, COUNT(*), CAST(SUM(body_size) AS SIGNED), MIN(due_at)
  FROM webhook_dispatcher_delivery WHERE due_at IS NOT NULL GROUP BY kind, rule_id ORDER BY kind, rule_id`)
	stats.Lanes, err = collect(rows, err, func(rows *sql.Rows, l *LaneStats) error {
		return rows.Scan(&l.Lane.Kind, &l.Lane.RuleID, &l.Rows, &l.Bytes, &l.DueAt)
	})
	if err != nil {
		return fail(err)
	}
	for state := delivery.Pending; state <= delivery.Halted; state++ {
		var one StateStats
		var oldest sql.NullTime
		err := s.db.QueryRowContext(ctx, `SELECT COUNT(*), MIN(updated_at), UTC_TIMESTAMP(3) FROM
  (SELECT updated_at FROM webhook_dispatcher_delivery WHERE state = ? ORDER BY updated_at LIMIT ?) AS counted`,
			uint8(state), MaxCounted).Scan(&one.Rows, &oldest, &stats.Now)
		if err != nil {
			return fail(err)
		}
		one.Oldest = oldest.Time
		stats.States[state] = one
	}
	return stats, nil
}
