package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// missing returns which events have not been taken by every one of the receivers.
func missing(events int, name func(i int) string, receivers ...*receiver) []string {
	var lost []string
	for n, rec := range receivers {
		got := map[string]bool{}
		for _, c := range rec.all() {
			_, metadata, _ := strings.Cut(c.Body, `"event_metadata": `)
			_, rest, _ := strings.Cut(metadata, `"id": "`)
			id, _, _ := strings.Cut(rest, `"`)
			got[id] = got[id] || c.Status == http.StatusOK
		}
		for i := range events {
			if !got[name(i)] {
				lost = append(lost, fmt.Sprintf("%s at receiver %d", name(i), n))
			}
		}
	}
	return lost
}

func numbered(i int) string { return fmt.Sprintf("event-%03d", i) }

// Stopping with requests under way cuts none of them: they are handed off, the positions are
// committed, their results written.
func TestStopWithRequestsUnderWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	defer release() // a test that fails meanwhile must not wait for ever for its receiver
	rec := w.receiver(func(_ http.ResponseWriter, _ *http.Request, _ *call) { <-answer })
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	const events, concurrency = 20, 6
	for i := range events {
		w.publish(f.message(0, numbered(i)))
	}
	d := w.start(func(cfg *config.Config) {
		cfg.HandOffAfter, cfg.Timeout, cfg.EndpointConcurrency = 10*time.Second, 30*time.Second, concurrency
	})
	rec.wait(t, concurrency)
	if rows := w.rows(); len(rows) > 0 {
		t.Errorf("rows before the stop: %+v", rows)
	}
	d.stop()
	w.waitCommitted(0, events)
	count := func(s delivery.State) (n int) {
		for _, r := range w.rows() {
			if r.State == int(s) {
				n++
			}
		}
		return n
	}
	if leased, pending := count(delivery.Leased), count(delivery.Pending); leased != concurrency || pending != events-concurrency {
		t.Errorf("%d rows leased, %d pending, want %d and %d", leased, pending, concurrency, events-concurrency)
	}
	release()
	d.end()
	if delivered := count(delivery.Delivered); delivered != concurrency {
		t.Errorf("%d rows delivered, want the %d that were under way", delivered, concurrency)
	}
	if n := len(rec.all()); n != concurrency {
		t.Errorf("%d calls, want %d: none after the stop", n, concurrency)
	}

	w.start(nil)
	rec.wait(t, events)
	wait(t, "all rows to be delivered", func() (bool, string) {
		n := count(delivery.Delivered)
		return n == events, fmt.Sprint(n)
	})
	if lost := missing(events, numbered, rec); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
	if n := len(rec.all()); n != events {
		t.Errorf("%d calls, want %d: a clean stop repeats nothing", n, events)
	}
}

// With the database away at the end nothing can be handed off. The position stays where it is safe,
// and the next process sends the rest. For what was under way this is the same as a crash.
func TestStopWithoutDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	defer release() // a test that fails meanwhile must not wait for ever for its receiver
	rec := w.receiver(func(_ http.ResponseWriter, r *http.Request, c *call) {
		if !strings.Contains(c.Body, numbered(0)) {
			select {
			case <-answer:
			case <-r.Context().Done():
			}
		}
	})
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	const events = 10
	for i := range events {
		w.publish(f.message(0, numbered(i)))
	}
	d := w.start(func(cfg *config.Config) { cfg.HandOffAfter, cfg.Timeout = 20*time.Second, 30*time.Second })
	rec.wait(t, events)
	w.waitCommitted(0, 1)
	w.gate.setShut(true)
	d.stop()
	wait(t, "the end of the drain", func() (bool, string) { return w.log.find("generation has ended") != "", "draining" })
	rec.CloseClientConnections() // or the requests are waited for
	d.end()
	if at := w.committed(0); at != 1 {
		t.Errorf("position %d: past events that are neither delivered nor rows", at)
	}
	w.gate.setShut(false)
	release()
	w.start(nil)
	w.waitCommitted(0, events)
	if lost := missing(events, numbered, rec); len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
	ids := map[string]int{}
	for _, c := range rec.all() {
		ids[c.id()]++
	}
	if len(ids) != events {
		t.Errorf("%d ids for %d deliveries: repeats must keep theirs", len(ids), events)
	}
}

// Two replicas share the partitions. One joins and one leaves in the middle, with a failing
// endpoint beside the good one: each event reaches both at least once.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	good, flaky := w.receiver(nil), w.receiver(statuses(503, 200))
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, good.at("/good"), false)
	w.rule(f.Event, flaky.at("/flaky"), false)
	const events = 200
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			w.publish(f.message(int32(i%4), numbered(i)))
		}
	}
	first := w.start(nil)
	publish(0, 50)
	good.wait(t, 25)
	second := w.start(nil)
	publish(50, 100)
	wait(t, "both to have partitions", func() (bool, string) {
		a, b := first.metric("webhook_dispatcher_bus_partitions_assigned"), second.metric("webhook_dispatcher_bus_partitions_assigned")
		return a == "2" && b == "2", a + " and " + b
	})
	publish(100, 150)
	first.end()
	publish(150, events)
	for partition := range int32(4) {
		w.waitCommitted(partition, events/4)
	}
	wait(t, "all events at both receivers", func() (bool, string) {
		lost := missing(events, numbered, good, flaky)
		return len(lost) == 0, fmt.Sprintf("%d missing, such as %v; rows %v", len(lost), lost[:min(3, len(lost))], w.waiting())
	})
	second.end()
	for _, rec := range []*receiver{good, flaky} {
		ids := map[string]bool{}
		for _, c := range rec.all() {
			ids[c.id()] = true
		}
		if len(ids) != events {
			t.Errorf("%d ids for %d deliveries", len(ids), events)
		}
	}
	t.Logf("calls: %d to the good endpoint, %d to the flaky one, for %d events", len(good.all()), len(flaky.all()), events)
}
