package queue_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

// A limit that counts rows only once they are stored is passed by all that is on its way meanwhile,
// which can be whole windows.
func TestLimitKnowsOfRowsOnTheirWay(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{Limits: queue.Limits{RuleRows: 3}}, func(t *testing.T, _ *laneTable, r replica) {
		r.db.setAway(true)
		var given atomic.Bool // up
		for n := range byte(3) {
			if r.gauge.Full(lane1) {
				t.Fatalf("full with %d rows on their way and room for 3", n)
			}
			r.writer.Enqueue(enqueuedRow(n, lane1, delivery.Pending), func() bool { return !given.Load() }, nil)
		}
		r.writer.Enqueue(enqueuedRow(9, lane2, delivery.Dead), nil, nil)
		if !r.gauge.Full(lane1) || r.gauge.Full(lane2) {
			t.Errorf("full: %v, want true; the lane with a dead row: %v, want false", r.gauge.Full(lane1), r.gauge.Full(lane2))
		}
		pass(2 * time.Minute) // the measurements meanwhile know nothing of them
		if !r.gauge.Full(lane1) {
			t.Error("not full any more, with the database away")
		}
		given.Store(true)
		pass(time.Minute)
		if r.gauge.Full(lane1) {
			t.Error("full, though nobody wants the rows any more")
		}
		r.db.setAway(false)
		pass(time.Minute)
		for n := range byte(3) {
			r.writer.Enqueue(enqueuedRow(10+n, lane1, delivery.Pending), nil, nil)
		}
		synctest.Wait()
		if n := len(r.db.stored()); n != 4 || !r.gauge.Full(lane1) {
			t.Errorf("%d rows stored, want 4; full: %v, want true", n, r.gauge.Full(lane1))
		}
	})
}

// Two rows a second, all of which wait, and which each measurement sees.
func TestSteadyRowsCountOnce(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{Limits: queue.Limits{RuleRows: 200}}, func(t *testing.T, s *laneTable, r replica) {
		s.takes = time.Second // as for a million rows
		for n := 1; n <= 190; n++ {
			r.writer.Enqueue(enqueuedRow(byte(n), lane1, delivery.Pending), nil, func() {})
			s.set(lane1, n, 0)
			pass(500 * time.Millisecond)
			if r.gauge.Full(lane1) {
				t.Errorf("full (limit 200) with %d rows; measured %d times", n, len(s.times))
				return
			}
		}
	})
}

// Steady failures that are delivered by another replica's claims: nothing waits, ever.
func TestRowsThatOthersDeliverDoNotAddUp(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{Limits: queue.Limits{RuleRows: 1000}}, func(t *testing.T, s *laneTable, r replica) {
		s.takes = time.Second // as for a million rows
		for n := range 3600 {
			r.writer.Enqueue(enqueuedRow(byte(n), lane1, delivery.Pending), nil, func() {})
			s.set(lane1, 1, 0)
			pass(500 * time.Millisecond)
			if r.gauge.Full(lane1) {
				t.Errorf("full (limit 1000) after %d rows of which 1 waits; measured %d times", n, len(s.times))
				return
			}
		}
	})
}
