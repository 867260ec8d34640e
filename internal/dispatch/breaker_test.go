package dispatch_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
)

var lane1 = delivery.Lane{Kind: delivery.KindWebhook, RuleID: 1}

// changing is an endpoint whose answer can be changed.
type changing struct {
	mu    sync.Mutex
	a     delivery.Attempt
	after time.Duration
}

func (c *changing) set(a delivery.Attempt, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.a, c.after = a, after
}

func (c *changing) answer(context.Context, *delivery.Delivery, int) delivery.Attempt {
	c.mu.Lock()
	a, after := c.a, c.after
	c.mu.Unlock()
	pass(after)
	return a
}

// reasons counts the rows by their reason.
func (w *world) reasons() map[delivery.Reason]int {
	n := map[delivery.Reason]int{}
	for _, r := range w.stored() {
		n[r.Reason]++
	}
	return n
}

// trip makes the breaker of rule 1 open, with ten events numbered from 0. It takes six seconds.
func trip(t *testing.T, w *world, d *dispatch.Dispatcher, c *changing) {
	t.Helper()
	w.set(func() { w.endpoints[1] = c.answer })
	c.set(delivery.Attempt{Status: 500}, time.Millisecond)
	for n := range 10 {
		w.event(d, n, 1)
		pass(600 * time.Millisecond)
	}
	if room, _, known := d.Room(lane1); room != 0 || !known || w.calls(1) != 10 {
		t.Fatalf("room %d, known %v after %d failures; want an open breaker after ten", room, known, w.calls(1))
	}
}

func TestBreakerOpensAndLetsOneProbeThrough(t *testing.T) {
	t.Parallel()
	var c changing
	registry := prometheus.NewRegistry()
	var log lockedBuffer
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		states := func(want ...float64) { // closed, half-open, open, openings
			t.Helper()
			pass(2 * time.Second)
			for i, name := range []string{"closed", "half_open", "open"} {
				if got := gauge(t, registry, "webhook_dispatcher_breakers", "state", name); got != want[i] {
					t.Errorf("%v lanes %s, want %v", got, name, want[i])
				}
			}
			if got := gauge(t, registry, "webhook_dispatcher_breaker_openings_total", "", ""); got != want[3] {
				t.Errorf("%v openings, want %v", got, want[3])
			}
		}
		trip(t, w, d, &c)
		states(0, 0, 1, 1)
		w.event(d, 10, 1)
		d.Resend(claimed(1, 1), time.Now().Add(time.Minute))
		synctest.Wait()
		rows, ups := w.stored(), w.settled()
		if last := rows[len(rows)-1]; len(rows) != 11 || last.Reason != delivery.ReasonCircuitOpen || last.Delay != 0 || last.Attempts != 0 ||
			last.State != delivery.Pending {
			t.Errorf("rows = %+v, want the last due now and untried", rows)
		}
		if len(ups) != 1 || ups[0].State != delivery.Pending || ups[0].Claims != 1 || ups[0].Delay != 0 {
			t.Errorf("updates = %+v, want the claim given back", ups)
		}
		if w.calls(1) != 10 || w.releases(10) != 1 {
			t.Errorf("%d calls, released %d times, while open", w.calls(1), w.releases(10))
		}

		pass(10 * time.Second)
		states(0, 1, 0, 1)
		if room, _, _ := d.Room(lane1); room != 1 {
			t.Errorf("room %d while half-open, want 1", room)
		}
		c.set(delivery.Attempt{Status: 500}, 100*time.Millisecond)
		w.event(d, 11, 1)
		w.event(d, 12, 1) // there is a probe
		synctest.Wait()
		if room, _, _ := d.Room(lane1); room != 0 || w.calls(1) != 11 || w.reasons()[delivery.ReasonCircuitOpen] != 2 {
			t.Errorf("room %d, %d calls, rows %v; want one probe", room, w.calls(1), w.reasons())
		}
		pass(200 * time.Millisecond)
		states(0, 0, 1, 1) // open again, which is not another opening

		pass(10 * time.Second)
		c.set(delivery.Attempt{Status: 404}, 100*time.Millisecond) // it works, if not for this one
		d.Resend(claimed(2, 1), time.Now().Add(time.Minute))
		pass(50 * time.Millisecond)
		if got := w.calls(1); got != 12 {
			t.Errorf("%d calls, want one probe of two claimed rows", got)
		}
		pass(time.Second)
		states(1, 0, 0, 1)
		if room, _, _ := d.Room(lane1); room != 8 || w.calls(1) != 13 {
			t.Errorf("room %d, %d calls after the breaker closed", room, w.calls(1))
		}
		if text := log.String(); strings.Count(text, "circuit breaker opened") != 1 || strings.Count(text, "circuit breaker closed") != 1 ||
			!strings.Contains(text, "rule_id=1") {
			t.Errorf("log:\n%s", text)
		}
	}, func(o *dispatch.Options) {
		o.Registerer = registry
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
}

// What waits when the breaker opens becomes rows, and claims are given back.
func TestBreakerClearsTheLaneWhenItOpens(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(500, 3*time.Second) // 4 at a time: the eighth after six seconds
		d.Resend(claimed(2, 1), time.Now().Add(time.Minute))
		for n := range 30 {
			w.event(d, n, 1)
		}
		d.Resend(claimed(8, 1)[2:], time.Now().Add(time.Minute))
		pass(9500 * time.Millisecond)
		if calls := w.calls(1); calls < 8 || calls > 11 {
			t.Errorf("%d calls, want eight and those that began when the others of the second four had ended", calls)
		}
		pass(3 * time.Second)
		got := w.reasons()
		if total := len(w.stored()); total != 30 || got[delivery.ReasonCircuitOpen]+got[delivery.ReasonStatus] != 30 ||
			got[delivery.ReasonCircuitOpen] < 20 {
			t.Errorf("rows by reason: %v", got)
		}
		for n := range 30 {
			if w.releases(n) != 1 {
				t.Errorf("event %d released %d times", n, w.releases(n))
			}
		}
		if ups := w.settled(); len(ups) != 8 {
			t.Errorf("%d updates, want each claimed row sent or given back", len(ups))
		}
	}, func(o *dispatch.Options) { o.HandOff = time.Minute })
}

// A burst that meets a restart of its endpoint opens nothing, and costs no more than the burst.
func TestBurstOfFailuresOpensNothing(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = changingTo(delivery.Attempt{Class: delivery.ClassConnect})
		for n := range 100 {
			w.event(d, n, 1)
		}
		pass(20 * time.Millisecond)
		w.set(func() { w.endpoints[1] = answers(200, 0) })
		w.event(d, 100, 1)
		pass(time.Millisecond)
		if w.calls(1) != 101 || w.releases(100) != 1 || w.reasons()[delivery.ReasonCircuitOpen] != 0 {
			t.Errorf("%d calls, rows %v", w.calls(1), w.reasons())
		}
	})
}

func TestBreakerStaysClosedForAnswers(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]delivery.Attempt{
		"404": {Status: 404}, "302": {Status: 302}, "410": {Status: 410}, "denied": {Class: delivery.ClassEgress},
		"no request": {Class: delivery.ClassRequest, Final: true}, "503 and a second of patience": {Status: 503, RetryAfter: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				c := changing{a: a}
				w.endpoints[1] = c.answer
				for n := range 30 {
					w.event(d, n, 1)
					pass(2 * time.Second)
				}
				if got := w.calls(1); got != 30 {
					t.Errorf("%d calls, want 30", got)
				}
			})
		})
	}
}

// A probe that is not sent, or that says nothing, leaves the breaker as it was: the next may try.
func TestProbeThatComesToNothingGivesItsPermitBack(t *testing.T) {
	t.Parallel()
	lease := func() time.Time { return time.Now().Add(time.Minute) }
	for name, nothing := range map[string]func(w *world, d *dispatch.Dispatcher, c *changing){
		"first try, rule gone": func(w *world, d *dispatch.Dispatcher, _ *changing) {
			w.set(func() { w.inactive[1] = true })
			w.event(d, 100, 1)
			pass(time.Millisecond)
			w.set(func() { w.inactive[1] = false })
		},
		"claimed, rule gone": func(w *world, d *dispatch.Dispatcher, _ *changing) {
			w.set(func() { w.inactive[1] = true })
			d.Resend(claimed(1, 1), lease())
			pass(time.Millisecond)
			w.set(func() { w.inactive[1] = false })
		},
		"rule paused": func(w *world, d *dispatch.Dispatcher, _ *changing) {
			w.set(func() { w.paused[1] = true })
			w.event(d, 100, 1)
			pass(time.Millisecond)
			w.set(func() { w.paused[1] = false })
		},
		"lease too short": func(_ *world, d *dispatch.Dispatcher, _ *changing) {
			d.Resend(claimed(1, 1), time.Now().Add(14*time.Second))
		},
		"cancelled": func(w *world, d *dispatch.Dispatcher, c *changing) {
			c.set(delivery.Attempt{Class: delivery.ClassCancelled}, 0)
			w.event(d, 100, 1)
		},
		"denied": func(w *world, d *dispatch.Dispatcher, c *changing) {
			c.set(delivery.Attempt{Class: delivery.ClassEgress}, 0)
			w.event(d, 100, 1)
		},
		"cancelled after its hand-off": func(w *world, d *dispatch.Dispatcher, c *changing) {
			c.set(delivery.Attempt{Class: delivery.ClassCancelled}, time.Second)
			w.event(d, 100, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				var c changing
				trip(t, w, d, &c)
				pass(11 * time.Second)
				nothing(w, d, &c)
				pass(2 * time.Second)
				if room, _, _ := d.Room(lane1); room != 1 {
					t.Fatalf("room %d, want that of a half-open breaker", room)
				}
				c.set(delivery.Attempt{Status: 200}, 0)
				w.event(d, 101, 1)
				pass(time.Millisecond)
				if room, _, _ := d.Room(lane1); room != 8 {
					t.Errorf("room %d, want the breaker closed by the next request", room)
				}
			})
		})
	}
}

// Requests begun before the breaker opened may hang until their timeouts. They keep no probe from its place, and their results
// count for nothing.
func TestProbeWaitsForNoneOfTheOldRequests(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		var c changing
		w.endpoints[1] = c.answer
		c.set(delivery.Attempt{Status: 200}, 20*time.Second)
		for n := range 7 { // of eight places
			w.event(d, 100+n, 1)
		}
		synctest.Wait()
		trip17(t, w, d, &c)
		pass(11 * time.Second)
		if room, _, _ := d.Room(lane1); room != 1 {
			t.Fatalf("room %d while half-open, want 1", room)
		}
		c.set(delivery.Attempt{Status: 500}, 5*time.Second)
		w.event(d, 200, 1)
		synctest.Wait()
		if got := w.calls(1); got != 18 {
			t.Fatalf("%d calls, want the probe under way with the old ones", got)
		}
		pass(4 * time.Second) // the old ones have succeeded
		if room, _, _ := d.Room(lane1); room != 0 {
			t.Errorf("room %d: old results closed the breaker", room)
		}
		pass(2 * time.Second) // the probe has failed
		if room, _, _ := d.Room(lane1); room != 0 {
			t.Errorf("room %d after a failed probe", room)
		}
		if ups := w.settled(); len(ups) != 8 {
			t.Errorf("%d results of handed off requests, want 8", len(ups))
		}
	}, func(o *dispatch.Options) { o.EndpointConcurrency = 8 })
}

// trip17 is trip with seven requests under way.
func trip17(t *testing.T, w *world, d *dispatch.Dispatcher, c *changing) {
	t.Helper()
	c.set(delivery.Attempt{Status: 500}, time.Millisecond)
	for n := range 10 {
		w.event(d, n, 1)
		pass(600 * time.Millisecond)
	}
	if room, _, _ := d.Room(lane1); room != 0 || w.calls(1) != 17 {
		t.Fatalf("room %d after %d calls; want an open breaker", room, w.calls(1))
	}
}

// A lane begins at the least after its breaker has closed, and what waits goes on by itself.
func TestPlacesAfterTheBreakerHasClosed(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		var c changing
		trip(t, w, d, &c)
		pass(11 * time.Second)
		c.set(delivery.Attempt{Status: 200}, 10*time.Millisecond)
		w.event(d, 100, 1)
		pass(11 * time.Millisecond)
		c.set(delivery.Attempt{Status: 200}, time.Second)
		for n := range 200 {
			w.event(d, 200+n, 1)
		}
		for i, want := range []int{4, 8, 16, 32, 64, 64} { // the probe that closed it earned nothing
			synctest.Wait()
			w.mu.Lock()
			if w.inFlight != want {
				t.Errorf("second %d: %d requests under way, want %d", i, w.inFlight, want)
			}
			w.mu.Unlock()
			pass(time.Second)
		}
		pass(time.Minute)
	}, func(o *dispatch.Options) { o.EndpointConcurrency = 64 })
}

// gauge returns the value of a metric: the sum of the series with the label, where one is given; -1 where there is none.
func gauge(t *testing.T, registry *prometheus.Registry, name, label, value string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			match := label == ""
			for _, l := range m.GetLabel() {
				match = match || l.GetName() == label && l.GetValue() == value
			}
			if match {
				found = true
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	if !found {
		return -1
	}
	return sum
}
