package dispatch_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
)

func (w *world) setFull(full bool) { w.set(func() { w.full[1] = full }) }

func deadLetters(o *dispatch.Options) { o.DeadLetterOverflow = true }

// Every way into a row, at the queue limit: with hold nothing is written, and all goes on below the limit; with dead there is a dead
// row without a body.
func TestQueueLimit(t *testing.T) {
	t.Parallel()
	pressed := func(d *dispatch.Dispatcher) { d.Backpressure(dispatch.Source{Topic: "t"}) }
	for _, tc := range []struct {
		name   string
		before func(w *world, d *dispatch.Dispatcher) // below the limit
		at     func(w *world, d *dispatch.Dispatcher) // events from 1000 on wait
		events int
		tried  int             // of them
		reason delivery.Reason // below the limit again
	}{
		{
			name: "failed first tries",
			at: func(w *world, d *dispatch.Dispatcher) {
				w.set(func() { w.endpoints[1] = answers(500, time.Millisecond) })
				w.event(d, 1000, 1)
				w.event(d, 1001, 1)
			},
			events: 2, tried: 2, reason: delivery.ReasonStatus,
		},
		{
			name: "closed lane",
			before: func(w *world, d *dispatch.Dispatcher) {
				w.set(func() { w.endpoints[1] = changingTo(delivery.Attempt{Status: 429, RetryAfter: time.Hour}) })
				w.event(d, 1, 1)
			},
			at:     func(w *world, d *dispatch.Dispatcher) { w.event(d, 1000, 1) },
			events: 1, reason: delivery.ReasonRetryAfter,
		},
		{
			name: "lane that closes",
			at: func(w *world, d *dispatch.Dispatcher) {
				w.set(func() {
					w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
						pass(10 * time.Millisecond)
						return delivery.Attempt{Status: 503, RetryAfter: time.Hour}
					}
				})
				for n := range 10 {
					w.event(d, 1000+n, 1)
				}
			},
			events: 10, tried: 4, reason: delivery.ReasonRetryAfter,
		},
		{
			name: "open breaker",
			before: func(w *world, d *dispatch.Dispatcher) {
				w.set(func() { w.endpoints[1] = answers(500, 5*time.Second) })
				for n := range 10 {
					w.event(d, n, 1)
				}
				pass(12 * time.Second)
			},
			at:     func(w *world, d *dispatch.Dispatcher) { w.event(d, 1000, 1) },
			events: 1, reason: delivery.ReasonCircuitOpen,
		},
		{
			name:   "paused rule",
			before: func(w *world, d *dispatch.Dispatcher) { w.set(func() { w.paused[1] = true }) },
			at:     func(w *world, d *dispatch.Dispatcher) { w.event(d, 1000, 1) },
			events: 1, reason: delivery.ReasonPaused,
		},
		{
			name: "rule that is paused while deliveries wait",
			at: func(w *world, d *dispatch.Dispatcher) {
				w.set(func() { w.endpoints[1] = answers(200, 400*time.Millisecond) })
				for n := range 4 {
					w.event(d, n, 1)
				}
				synctest.Wait()
				w.event(d, 1000, 1)
				w.set(func() { w.paused[1] = true })
			},
			events: 1, reason: delivery.ReasonPaused,
		},
		{
			name: "spill",
			before: func(w *world, d *dispatch.Dispatcher) {
				w.set(func() { w.endpoints[1] = answers(200, 20*time.Second) })
				for n := range 4 {
					w.event(d, n, 1)
				}
				synctest.Wait()
			},
			at: func(w *world, d *dispatch.Dispatcher) {
				w.event(d, 1000, 1)
				pass(6 * time.Second)
				pressed(d)
			},
			events: 1, reason: delivery.ReasonSpill,
		},
	} {
		t.Run(tc.name+", hold", func(t *testing.T) {
			t.Parallel()
			var log lockedBuffer
			registry := prometheus.NewRegistry()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				w.endpoints[1] = answers(200, 0)
				if tc.before != nil {
					tc.before(w, d)
				}
				pass(time.Second)
				w.setFull(true)
				rows := len(w.stored())
				tc.at(w, d)
				pass(3 * time.Second)
				if got := w.stored()[rows:]; len(got) != 0 {
					t.Errorf("rows beyond the limit: %+v", got)
				}
				calls := w.calls(1)
				for n := range tc.events {
					if got := w.releases(1000 + n); got != 0 {
						t.Errorf("event %d released %d times while held", n, got)
					}
				}
				if got := gauge(t, registry, "webhook_dispatcher_rules_at_queue_limit", "", ""); got != 1 {
					t.Errorf("%v lanes held, want 1", got)
				}
				if text := log.String(); strings.Count(text, "queue limit reached") != 1 || !strings.Contains(text, "rule_id=1") ||
					!strings.Contains(text, "QUEUE_LIMIT_RULE_ROWS") {
					t.Errorf("log:\n%s", text)
				}
				if tc.reason == delivery.ReasonSpill {
					pressBelow(w, d)
				}
				w.setFull(false)
				if tc.reason == delivery.ReasonSpill {
					pressed(d)
				}
				pass(3 * time.Second)
				got := w.stored()[rows:]
				tried := 0
				for _, r := range got {
					if r.LastStatus != 0 {
						tried++
					}
					if r.Reason != tc.reason || r.State != delivery.Pending || r.Body == nil {
						t.Errorf("row %+v, want pending, %s", r, tc.reason)
					}
				}
				if len(got) != tc.events || tried != tc.tried || w.calls(1) != calls {
					t.Errorf("%d rows, %d of them tried, %d calls more; want %d, %d and none",
						len(got), tried, w.calls(1)-calls, tc.events, tc.tried)
				}
				for n := range tc.events {
					if got := w.releases(1000 + n); got != 1 {
						t.Errorf("event %d released %d times", n, got)
					}
				}
				if got := gauge(t, registry, "webhook_dispatcher_rules_at_queue_limit", "", ""); got != 0 {
					t.Errorf("%v lanes held below the limit", got)
				}
				pass(time.Minute)
			}, func(o *dispatch.Options) {
				o.Registerer, o.Logger = registry, slog.New(slog.NewTextHandler(&log, nil))
			})
		})
		t.Run(tc.name+", dead", func(t *testing.T) {
			t.Parallel()
			var log lockedBuffer
			registry := prometheus.NewRegistry()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				w.endpoints[1] = answers(200, 0)
				if tc.before != nil {
					tc.before(w, d)
				}
				pass(time.Second)
				w.setFull(true)
				rows := len(w.stored())
				tc.at(w, d)
				pass(3 * time.Second)
				got := w.stored()[rows:]
				for _, r := range got {
					if r.Reason != delivery.ReasonQueueLimit || r.State != delivery.Dead || r.Body != nil {
						t.Errorf("row %+v, want dead without a body", r)
					}
				}
				if len(got) != tc.events || w.releases(1000) != 1 {
					t.Errorf("%d rows, want %d", len(got), tc.events)
				}
				if n := gauge(t, registry, "webhook_dispatcher_deliveries_overflowed_total", "", ""); int(n) != tc.events {
					t.Errorf("%v counted, want %d", n, tc.events)
				}
				if text := log.String(); strings.Count(text, "queue limit reached") != 1 || !strings.Contains(text, "rule_id=1") {
					t.Errorf("log:\n%s", text)
				}
				pass(time.Minute)
			}, deadLetters, func(o *dispatch.Options) {
				o.Registerer, o.Logger = registry, slog.New(slog.NewTextHandler(&log, nil))
			})
		})
	}
}

func changingTo(a delivery.Attempt) endpoint {
	return func(context.Context, *delivery.Delivery, int) delivery.Attempt { return a }
}

// pressBelow presses a partition at its queue limit again and again: that is what the bus does.
func pressBelow(w *world, d *dispatch.Dispatcher) {
	rows := len(w.stored())
	for range 10 {
		d.Backpressure(dispatch.Source{Topic: "t"})
		pass(100 * time.Millisecond)
	}
	if got := len(w.stored()); got != rows {
		w.t.Errorf("%d rows written under pressure beyond the limit", got-rows)
	}
}

// A request that takes long is not handed off beyond the limit, and its result decides.
func TestQueueLimitAndHandOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		dead   bool
		want   delivery.Reason
	}{
		{"hold, taken", 200, false, delivery.ReasonNone},
		{"dead, taken", 200, true, delivery.ReasonNone},
		{"hold, failed", 500, false, delivery.ReasonNone},
		{"dead, failed", 500, true, delivery.ReasonQueueLimit},
		{"hold, dead", 410, false, delivery.ReasonGone}, // a dead row waits for nothing
	} {
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.endpoints[1] = answers(tc.status, 3*time.Second)
			w.setFull(true)
			w.event(d, 1, 1)
			pass(2 * time.Second)
			if rows := w.stored(); len(rows) != 0 || w.releases(1) != 0 {
				t.Errorf("%s: handed off beyond the limit: %+v", tc.name, rows)
			}
			pass(2 * time.Second)
			rows := w.stored()
			if tc.want == delivery.ReasonNone {
				if len(rows) != 0 {
					t.Errorf("%s: rows %+v", tc.name, rows)
				}
			} else if len(rows) != 1 || rows[0].Reason != tc.want {
				t.Errorf("%s: rows %+v, want one, %s", tc.name, rows, tc.want)
			}
			held := tc.status == 500 && !tc.dead
			if released := w.releases(1) == 1; released == held {
				t.Errorf("%s: released: %v", tc.name, released)
			}
			w.setFull(false)
			pass(2 * time.Second)
			if w.releases(1) != 1 {
				t.Errorf("%s: released %d times in the end", tc.name, w.releases(1))
			}
		}, func(o *dispatch.Options) { o.DeadLetterOverflow = tc.dead })
	}
}

// The delay of a held delivery counts from its failure, not from the end of its hold.
func TestHeldDelayGoesOn(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(500, 0)
		w.setFull(true)
		w.event(d, 1, 1)
		pass(3 * time.Second)
		w.setFull(false)
		pass(1200 * time.Millisecond)
		rows := w.stored()
		if len(rows) != 1 || rows[0].Delay > 2*time.Second || rows[0].Delay < 500*time.Millisecond {
			t.Errorf("rows %+v, want one due five seconds after its failure", rows)
		}
	})
}

// What has not been tried goes on when its lane opens, too.
func TestHeldUntriedIsSentWhenTheLaneOpens(t *testing.T) {
	t.Parallel()
	for name, shut := range map[string]struct {
		close, open func(w *world, d *dispatch.Dispatcher)
	}{
		"retry after": {
			func(w *world, d *dispatch.Dispatcher) {
				w.set(func() { w.endpoints[1] = changingTo(delivery.Attempt{Status: 429, RetryAfter: 10 * time.Second}) })
				w.event(d, 1, 1)
			},
			func(*world, *dispatch.Dispatcher) { pass(10 * time.Second) },
		},
		"breaker": {
			func(w *world, d *dispatch.Dispatcher) {
				w.set(func() { w.endpoints[1] = answers(500, time.Millisecond) })
				for n := range 10 {
					w.event(d, n, 1)
					pass(600 * time.Millisecond)
				}
			},
			func(*world, *dispatch.Dispatcher) { pass(10 * time.Second) },
		},
		"paused": {
			func(w *world, d *dispatch.Dispatcher) { w.set(func() { w.paused[1] = true }) },
			func(w *world, d *dispatch.Dispatcher) { w.set(func() { w.paused[1] = false }) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				shut.close(w, d)
				pass(time.Second)
				w.setFull(true)
				for n := range 20 {
					w.event(d, 100+n, 1)
				}
				pass(2 * time.Second)
				if w.releases(100) != 0 {
					t.Error("released while held")
				}
				rows := len(w.stored())
				w.set(func() { w.endpoints[1] = answers(200, 100*time.Millisecond) })
				shut.open(w, d)
				pass(3 * time.Second)
				for n := range 20 {
					if got := w.releases(100 + n); got != 1 {
						t.Errorf("event %d released %d times after the lane opened", n, got)
					}
				}
				if got := w.stored()[rows:]; len(got) != 0 {
					t.Errorf("rows %+v", got)
				}
			})
		})
	}
}

// Draining does not wait for what is held: it is dropped, unreleased, and read again. Requests under way are handed off even so.
func TestDrainDropsWhatIsHeld(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(500, time.Millisecond), answers(200, 3*time.Second)
		w.setFull(true)
		w.event(d, 1, 1) // tried, held
		w.event(d, 2, 2) // of another rule
		pass(10 * time.Millisecond)
		w.set(func() { w.endpoints[1] = answers(500, 3*time.Second) })
		for n := range 6 {
			w.event(d, 10+n, 1) // four under way, two wait
		}
		w.event(d, 20, 1, 2)
		pass(time.Millisecond)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := d.Drain(ctx); err == nil || !strings.Contains(err.Error(), "4 events wait at a queue limit") {
			t.Errorf("drain: %v, want to hear of four events", err)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("the drain took %v", took)
		}
		for n, want := range map[int]int{1: 0, 2: 1, 10: 1, 11: 1, 12: 1, 13: 1, 14: 0, 15: 0, 20: 0} {
			if got := w.releases(n); got != want {
				t.Errorf("event %d released %d times, want %d", n, got, want)
			}
		}
		calls := w.calls(1)
		w.setFull(false)
		pass(time.Minute)
		if got := w.calls(1); got != calls {
			t.Errorf("%d calls for events that were given up", got-calls)
		}
		if w.releases(1) != 0 || w.releases(20) != 0 {
			t.Error("released after all")
		}
		w.set(func() { w.endpoints[1] = answers(200, 0) })
		pass(time.Minute)
		w.event(d, 30, 1)
		pass(time.Second)
		if w.releases(30) != 1 {
			t.Error("the dispatcher does not go on")
		}
	})
}

// A body that fits no row can wait in memory for a lane to open, but not for a drain.
func TestDrainDeadLettersWhatFitsNoRowInAShutLane(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.maxBody = 1
		w.setFull(true)
		w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
			pass(10 * time.Millisecond)
			return delivery.Attempt{Status: 429, RetryAfter: time.Hour}
		}
		for n := range 6 {
			w.event(d, n, 1)
		}
		pass(100 * time.Millisecond)
		began := time.Now()
		if err := d.Drain(t.Context()); err != nil {
			t.Errorf("drain: %v", err)
		}
		if took := time.Since(began); took > time.Second || w.reasons()[delivery.ReasonTooLarge] != 6 || w.releases(5) != 1 {
			t.Errorf("drained in %v, rows %v, released %d times", took, w.reasons(), w.releases(5))
		}
	})
}

// Of a rule that was switched off, as the log advises, no more comes: what is here passes the limit.
func TestDisabledRuleAtTheQueueLimitFreesItsPartitions(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(500, time.Millisecond)
		w.setFull(true)
		w.event(d, 1, 1)
		pass(2 * time.Second)
		if w.releases(1) != 0 {
			t.Fatal("released at the limit")
		}
		w.set(func() { w.inactive[1] = true })
		w.event(d, 2, 1) // matched just before
		pass(3 * time.Second)
		if w.releases(1) != 1 || w.releases(2) != 1 || len(w.stored()) != 2 {
			t.Errorf("released %d and %d times, rows %+v; want once each, as rows", w.releases(1), w.releases(2), w.stored())
		}
	})
}

// A drain of an endpoint that works dead-letters nothing that was not even tried: it is read again.
func TestDrainAtTheQueueLimitDeadLettersNothing(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 400*time.Millisecond)
		for n := range 20 {
			w.event(d, n, 1)
		}
		w.setFull(true)
		synctest.Wait()
		if err := d.Drain(t.Context()); err == nil {
			t.Error("no error tells of what will be read again")
		}
		for _, row := range w.stored() {
			if row.State == delivery.Dead {
				t.Errorf("row %+v", row)
			}
		}
		for n := range 20 {
			if w.releases(n) > 1 {
				t.Errorf("event %d released %d times", n, w.releases(n))
			}
		}
	}, func(o *dispatch.Options) { o.DeadLetterOverflow = true })
}
