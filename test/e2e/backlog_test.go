//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestBacklog starts the daemon on a long backlog with one healthy endpoint. Kafka is the queue: no
// delivery row may be written, not even one that is deleted later, and memory must not grow with
// the backlog.
func TestBacklog(t *testing.T) {
	s := harness.NewSite(t)
	k := harness.NewSink(t)
	l := s.NewLoad(1, 4)
	e, _ := s.AddHook(k, "hook", l.Constants[0], nil)
	count := harness.Sized(50_000, 300_000)
	l.Send(count, 0)
	l.Sent()
	d := s.Launch()
	d.WaitReady(30 * time.Second)
	harness.Eventually(t, 30*time.Second, "the first event", func() error {
		return harness.AtLeast(e.Events(), 1)
	})
	took := harness.Eventually(t, harness.Sized(2*time.Minute, 10*time.Minute), "all events", func() error {
		return harness.AtLeast(e.Events(), count)
	})
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	byTable, byDaemon := s.RowsWritten(d)
	if byTable > 0 || byDaemon > 0 || s.Rows("TRUE") > 0 {
		t.Errorf("rows written: %d by the table's counter, %d by the daemon's (%s), %d are there",
			byTable, byDaemon, d.EnqueuedBy(), s.Rows("TRUE"))
	}
	if n := len(e.Visited()); n != count {
		t.Errorf("%d requests for %d events", n, count)
	}
	peak := d.Peak()
	if peak > harness.PeakMemory {
		t.Errorf("the daemon took %.0f MiB, want %d at most", peak, harness.PeakMemory)
	}
	harness.Figure(t, "%d events, %.0f a second, no row written; at most %.0f MiB; stopped in %s",
		count, float64(count)/took.Seconds(), peak, d.Terminate())
}

// TestBacklogBesideHangingEndpoint starts the daemon on a backlog for two endpoints, one of which
// hangs. The healthy one gets everything from memory. The other has at most one row per event, and
// the rows waiting stay within the queue limit.
func TestBacklogBesideHangingEndpoint(t *testing.T) {
	s := harness.NewSite(t)
	k := harness.NewSink(t)
	l := s.NewLoad(1, 4)
	healthy, healthyRule := s.AddHook(k, "healthy", l.Constants[0], nil)
	_, hangingRule := s.AddHook(k, "hanging", l.Constants[0], harness.Hangs)
	count := harness.Sized(20_000, 300_000)
	limit := count / 3
	l.Send(count, 0)
	l.Sent()
	d := s.Launch("WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead", fmt.Sprintf("WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS=%d", limit))
	d.WaitReady(30 * time.Second)
	most := 0
	took := harness.Eventually(t, harness.Sized(3*time.Minute, 15*time.Minute), "all events at the healthy endpoint", func() error {
		most = max(most, s.Rows("rule_id = ? AND state IN (0, 1)", hangingRule))
		return harness.AtLeast(healthy.Events(), count)
	})
	s.Producer.WaitCommitted(time.Minute, harness.Registrations)
	most = max(most, s.Rows("rule_id = ? AND state IN (0, 1)", hangingRule))
	states, err := s.States()
	if err := errors.Join(err, harness.Want("rows of the hanging endpoint", s.Rows("rule_id = ?", hangingRule), count)); err != nil {
		t.Error(err)
	}
	// The queue is measured every 30 s; between measurements a replica adds only its own rows.
	if bound := limit + limit/10; most > bound {
		t.Errorf("%d rows waited, the limit is %d", most, limit)
	}
	// On a busy machine a request may take longer than the hand-off time.
	handedOff := s.Rows("rule_id = ?", healthyRule)
	if handedOff > count/100 {
		t.Errorf("the healthy endpoint has %d rows: %s", handedOff, d.EnqueuedBy())
	}
	peak := d.Peak()
	if peak > harness.PeakMemory {
		t.Errorf("the daemon took %.0f MiB, want %d at most", peak, harness.PeakMemory)
	}
	harness.Figure(t,
		"%d events, %.0f a second to the healthy endpoint, %d of them as rows; rows %v, %d waiting at most, limit %d; at most %.0f MiB",
		count, float64(count)/took.Seconds(), handedOff, states, most, limit, peak)
	d.Kill()
}

// TestQueueLimitHolds lets an endpoint hang until its queue limit is reached. Then the partitions
// wait, which is the documented exception to the isolation of endpoints. Once the endpoint works
// again everything is delivered; no event is lost.
func TestQueueLimitHolds(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	k := harness.NewSink(t)
	l := s.NewLoad(1, 2)
	healthy, _ := s.AddHook(k, "healthy", l.Constants[0], nil)
	hanging, rule := s.AddHook(k, "hanging", l.Constants[0], harness.Hangs)
	const count, limit, window = 6000, 1000, 200
	l.Send(count, 0)
	l.Sent()
	d := s.Serve(fmt.Sprintf("WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS=%d", limit),
		fmt.Sprintf("WEBHOOK_DISPATCHER_MAX_IN_FLIGHT_PER_PARTITION=%d", window),
		"WEBHOOK_DISPATCHER_TIMEOUT=2s", "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
	waiting := func() int { return s.Rows("rule_id = ? AND state IN (0, 1)", rule) }
	reached := harness.Eventually(t, 30*time.Second, "the queue limit", func() error {
		return harness.AtLeast(waiting(), limit)
	})
	// Requests in flight when the limit is reached may still become rows, as may one batch.
	const bound = limit + 64 + 500
	most := 0
	harness.Throughout(t, 5*time.Second, "rows at the limit", func() error {
		if most = max(most, waiting()); most > bound {
			return fmt.Errorf("%d rows wait, the limit is %d", most, limit)
		}
		return nil
	})
	// The healthy endpoint has the events that are rows for the other one, and those in the
	// windows.
	if got := healthy.Events(); got < limit || got > bound+2*window {
		t.Errorf("the healthy endpoint has %d events while %d rows wait", got, most)
	}
	k.LetGo()
	took := harness.Eventually(t, 2*time.Minute, "all events at both endpoints", func() error {
		return errors.Join(harness.Want("healthy", healthy.Events(), count), harness.Want("hanging", len(hanging.Taken()), count))
	})
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	harness.Eventually(t, 20*time.Second, "rows", s.AllDelivered)
	harness.Figure(t,
		"limit of %d reached after %s, %d rows waiting at most; all %d events delivered %s after the endpoint worked again; stopped "+
			"in %s", limit, reached, most, count, took, d.Terminate())
}
