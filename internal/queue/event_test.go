package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

// filtered is a lane of events that wait for their filters.
var filtered = delivery.Lane{Kind: delivery.KindEvent, RuleID: 5}

// withEvents is withGauge, later than the first measurement, which knows of nothing.
func withEvents(t *testing.T, limits queue.Limits, test func(t *testing.T, r replica)) {
	t.Helper()
	withGauge(t, queue.DepthMonitorOptions{Limits: limits}, func(t *testing.T, _ *laneTable, r replica) {
		pass(time.Second)
		test(t, r)
	})
}

// eventRow stores a row of an event, leased by this process.
func eventRow(r *replica, n byte) (delivery.ID, delivery.Token) {
	in := enqueuedRow(n, filtered, delivery.Leased)
	in.Token = delivery.Token{n}
	r.writer.Enqueue(in, nil, nil)
	synctest.Wait()
	return in.ID, in.Token
}

// The row of an event that goes leaves room for another, and those of its deliveries take some: at
// once, not after the next measurement.
func TestLimitKnowsOfFinishedEvents(t *testing.T) {
	t.Parallel()
	withEvents(t, queue.Limits{RuleRows: 2}, func(t *testing.T, r replica) {
		is := func(what string, events, deliveries bool) {
			t.Helper()
			if r.gauge.Full(filtered) != events || r.gauge.Full(lane1) != deliveries {
				t.Errorf("%s: the events' lane is full: %v, that of their deliveries: %v", what, r.gauge.Full(filtered), r.gauge.Full(lane1))
			}
		}
		first, firstToken := eventRow(&r, 1)
		second, secondToken := eventRow(&r, 2)
		is("two events", true, false)
		rows := []delivery.Insert{
			enqueuedRow(11, lane1, delivery.Pending), enqueuedRow(12, lane1, delivery.Pending), enqueuedRow(13, lane1, delivery.Dead),
		}
		r.db.setAway(true)
		if done, err := r.writer.FinishEvent(t.Context(), first, firstToken, rows); done || err == nil {
			t.Errorf("with the database away: %v, %v", done, err)
		}
		is("with the database away", true, false)
		r.db.setAway(false)
		if done, err := r.writer.FinishEvent(t.Context(), first, firstToken, rows[:1]); !done || err != nil {
			t.Errorf("finished: %v, %v", done, err)
		}
		is("one of them a delivery", false, false)
		if done, err := r.writer.FinishEvent(t.Context(), second, secondToken, rows[1:]); !done || err != nil {
			t.Errorf("finished: %v, %v", done, err)
		}
		is("both deliveries", false, true)

		// An event that somebody else has by now changes nothing, but that it is no longer ours.
		third, thirdToken := eventRow(&r, 3)
		eventRow(&r, 4)
		r.db.mu.Lock()
		r.db.lost = append(r.db.lost, third)
		r.db.mu.Unlock()
		if done, err := r.writer.FinishEvent(t.Context(), third, thirdToken, rows); done || err != nil {
			t.Errorf("lost: %v, %v", done, err)
		}
		is("lost", true, true)
	})
}

// On its way into the database a delivery counts already.
func TestLimitKnowsOfDeliveriesOfEventsOnTheirWay(t *testing.T) {
	t.Parallel()
	withEvents(t, queue.Limits{RuleRows: 1}, func(t *testing.T, r replica) {
		id, token := eventRow(&r, 1)
		r.db.mu.Lock()
		r.db.latency = time.Second
		r.db.mu.Unlock()
		made := []delivery.Insert{enqueuedRow(11, lane1, delivery.Pending)}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if done, err := r.writer.FinishEvent(t.Context(), id, token, made); !done || err != nil {
				t.Errorf("finished: %v, %v", done, err)
			}
		}()
		synctest.Wait()
		if !r.gauge.Full(lane1) {
			t.Error("a delivery on its way does not count")
		}
		<-ended
		if !r.gauge.Full(lane1) || r.gauge.Full(filtered) {
			t.Error("stored, it does not count, or the event still does")
		}
	})
}

// A measurement has the deliveries: counted again as what is on its way, they would fill a lane
// that is not full.
func TestDeliveriesOfEventsCountOnce(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{Limits: queue.Limits{RuleRows: 2}}, func(t *testing.T, s *laneTable, r replica) {
		id, token := eventRow(&r, 1)
		made := []delivery.Insert{enqueuedRow(11, lane1, delivery.Pending)}
		if done, err := r.writer.FinishEvent(t.Context(), id, token, made); !done || err != nil {
			t.Errorf("finished: %v, %v", done, err)
		}
		s.set(lane1, 1, 0)
		pass(time.Minute)
		if r.gauge.Full(lane1) {
			t.Error("full (limit 2) with one row")
		}
	})
}

// A halt that is written at once tells whether it holds, and its row waits no more.
func TestEndOfALease(t *testing.T) {
	t.Parallel()
	withEvents(t, queue.Limits{RuleRows: 1}, func(t *testing.T, r replica) {
		id, token := eventRow(&r, 1)
		halt := delivery.Update{ID: id, Token: token, State: delivery.Halted}
		r.db.setAway(true)
		if done, err := r.writer.End(t.Context(), halt); done || err == nil || !r.gauge.Full(filtered) {
			t.Errorf("with the database away: %v, %v", done, err)
		}
		r.db.setAway(false)
		if done, err := r.writer.End(t.Context(), halt); !done || err != nil || r.gauge.Full(filtered) {
			t.Errorf("halted: %v, %v; full: %v", done, err, r.gauge.Full(filtered))
		}
		id, token = eventRow(&r, 2)
		r.db.mu.Lock()
		r.db.lost = append(r.db.lost, id)
		r.db.mu.Unlock()
		if done, err := r.writer.End(t.Context(), delivery.Update{ID: id, Token: token, State: delivery.Halted}); done || err != nil {
			t.Errorf("lost: %v, %v", done, err)
		}
		if !r.gauge.Full(filtered) {
			t.Error("a row that somebody else has waits no more")
		}
	})
}

// The limits in all hold nobody back who puts a row in the place of another.
func TestLaneFull(t *testing.T) {
	t.Parallel()
	withEvents(t, queue.Limits{RuleRows: 2, Rows: 1}, func(t *testing.T, r replica) {
		eventRow(&r, 1)
		if !r.gauge.Full(lane1) || r.gauge.LaneFull(lane1) || r.gauge.LaneFull(filtered) {
			t.Errorf("full: %v; the lane: %v, the events' %v", r.gauge.Full(lane1), r.gauge.LaneFull(lane1), r.gauge.LaneFull(filtered))
		}
		eventRow(&r, 2)
		if !r.gauge.LaneFull(filtered) || r.gauge.LaneFull(lane1) {
			t.Error("the limit of a rule is not seen")
		}
	})
}

func TestFinishedEventsAreCounted(t *testing.T) {
	t.Parallel()
	db := &database{}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, reg *prometheus.Registry) {
		made := row(1)
		made.Reason = delivery.ReasonFiltering
		if done, err := w.FinishEvent(t.Context(), delivery.ID{9}, delivery.Token{9}, []delivery.Insert{made}); !done || err != nil {
			t.Errorf("finished: %v, %v", done, err)
		}
		db.lost = []delivery.ID{{8}}
		if done, err := w.FinishEvent(t.Context(), delivery.ID{8}, delivery.Token{8}, []delivery.Insert{made}); done || err != nil {
			t.Errorf("lost: %v, %v", done, err)
		}
		for name, want := range map[string]float64{"webhook_dispatcher_rows_enqueued_total": 1, "webhook_dispatcher_results_discarded_total": 1} {
			if got := sum(t, reg, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	})
}

// sum adds all series of a counter up.
func sum(t *testing.T, reg *prometheus.Registry, name string) (total float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	return total
}
