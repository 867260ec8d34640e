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
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// kept is a delivery that has the event itself.
func kept(body string) delivery.Delivery {
	return delivery.Delivery{
		ID: idOf(1, 1), Kind: delivery.KindWebhook, RuleID: 1, EventType: userType, Format: delivery.FormatEvent, Body: []byte(body),
		Traceparent: traceparent,
	}
}

// first dispatches a delivery as the only one of event 1.
func (w *world) first(d *dispatch.Dispatcher, out delivery.Delivery) {
	d.Dispatch(dispatch.Source{Topic: "t"}, []delivery.Delivery{out}, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.released[1]++
	})
}

// What has the event is built by the rule of the moment, sent as such, and kept as it is.
func TestEventIsBuiltForEachAttempt(t *testing.T) {
	t.Parallel()
	cloud := rule.Rule{Shape: payload.ShapeCloudEvents, Format: delivery.FormatCloudEvents}
	filtered := rule.Rule{Filter: jq(t, "$data.is_active"), Transform: jq(t, "{a: $data.id}")}
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.shaped = map[int32]rule.Rule{1: cloud}
		var bodies []string
		var formats []delivery.Format
		status := 500
		w.endpoints[1] = func(_ context.Context, d *delivery.Delivery, number int) delivery.Attempt {
			if d.ID != idOf(1, 1) || number != len(bodies)+1 {
				t.Errorf("attempt %d of %v", number, d.ID)
			}
			bodies, formats = append(bodies, string(d.Body)), append(formats, d.Format)
			return delivery.Attempt{Status: status}
		}
		w.first(d, kept(plainBody))
		pass(time.Second)
		rows := w.stored()
		if len(rows) != 1 || rows[0].Format != delivery.FormatEvent || string(rows[0].Body) != plainBody || rows[0].State != delivery.Pending {
			t.Fatalf("rows %+v; want the event, pending", rows)
		}
		w.set(func() { w.shaped[1], status = filtered, 200 }) // edited meanwhile
		d.Resend([]delivery.Row{{Delivery: rows[0].Delivery, State: delivery.Leased, Claims: 2, Attempts: 1}}, time.Now().Add(time.Minute))
		pass(time.Second)
		if len(bodies) != 2 || bodies[0] != cloudEvent+userData || bodies[1] != `{"a": 4}` ||
			formats[0] != delivery.FormatCloudEvents || formats[1] != delivery.FormatJSON {
			t.Errorf("sent %v %v", formats, bodies)
		}
		if ups := w.settled(); len(ups) != 1 || ups[0].State != delivery.Delivered || w.releases(1) != 1 {
			t.Errorf("updates %+v, %d releases", ups, w.releases(1))
		}
	})
}

// What cannot be built, or is left out after all, is not sent: as a first try, and as a row.
func TestEventThatIsNotSent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule     rule.Rule
		body     string
		state    delivery.State
		class    delivery.ErrorClass
		reason   delivery.Reason
		result   string
		response string
	}{
		"transform fails": {
			rule.Rule{Transform: jq(t, "error($data.name)")},
			plainBody,
			delivery.Dead, delivery.ClassExpression, delivery.ReasonExpression, "dead", "the transform failed: error: andrés",
		},
		"filter fails": {
			rule.Rule{Filter: jq(t, "$data")},
			plainBody,
			delivery.Dead, delivery.ClassExpression, delivery.ReasonExpression, "dead", "the filter returned an object",
		},
		"filter says no": {
			rule.Rule{Filter: jq(t, "false")}, plainBody, delivery.Halted, delivery.ClassFiltered, delivery.ReasonFiltered, "halted", "",
		},
		"no event": {
			rule.Rule{},
			`{"andrés": 1}`,
			delivery.Dead, delivery.ClassExpression, delivery.ReasonExpression, "dead",
			"the stored event cannot be read: event_metadata: ",
		},
	} {
		var log lockedBuffer
		registry := prometheus.NewRegistry()
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.shaped = map[int32]rule.Rule{1: tc.rule}
			w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
				t.Errorf("%s: sent", name)
				return delivery.Attempt{Status: 200}
			}
			w.first(d, kept(tc.body))
			pass(time.Second)
			rows := w.stored()
			switch {
			case tc.state == delivery.Halted && len(rows) != 0:
				t.Errorf("%s: rows %+v; want none for what is not wanted", name, rows)
			case tc.state == delivery.Dead && (len(rows) != 1 || rows[0].State != delivery.Dead || rows[0].Reason != tc.reason ||
				rows[0].Format != delivery.FormatEvent || string(rows[0].Body) != tc.body || rows[0].Attempts != 1):
				t.Errorf("%s: rows %+v; want a dead one with the event", name, rows)
			}
			if got := w.releases(1); got != 1 {
				t.Errorf("%s: released %d times", name, got)
			}
			row := delivery.Row{Delivery: kept(tc.body), Token: delivery.Token{1}, State: delivery.Leased, Claims: 3, Attempts: 2}
			d.Resend([]delivery.Row{row}, time.Now().Add(time.Minute))
			pass(time.Second)
			ups := w.settled()
			if len(ups) != 1 || ups[0].State != tc.state || ups[0].Reason != tc.reason || ups[0].Token != (delivery.Token{1}) {
				t.Errorf("%s: updates %+v", name, ups)
			}
			attempts := w.logged()
			if len(attempts) != 2 {
				t.Fatalf("%s: attempts %+v; want one of each", name, attempts)
			}
			for i, a := range attempts {
				if a.Class != tc.class || !strings.HasPrefix(string(a.Response), tc.response) || len(a.Response) == 0 != (tc.response == "") ||
					a.Number != 2*i+1 || a.ID != idOf(1, 1) || a.RuleID != 1 || a.EventType != userType || a.At.IsZero() ||
					a.Kind != delivery.KindWebhook {
					t.Errorf("%s: attempt %+v", name, a)
				}
			}
			unbuilt := 0
			for _, h := range d.Health() {
				unbuilt += h.RenderFailures
			}
			if want := map[delivery.ErrorClass]int{delivery.ClassExpression: 2}[tc.class]; unbuilt != want {
				t.Errorf("%s: %d attempts noted as unbuilt, want %d", name, unbuilt, want)
			}
		}, func(o *dispatch.Options) {
			o.Logger, o.Registerer = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), registry
		})
		if strings.Contains(log.String(), "andr") {
			t.Errorf("%s: the log holds a part of the event:\n%s", name, log.String())
		}
		if got := gauge(t, registry, "webhook_dispatcher_delivery_attempts_total", "result", tc.result); got != 2 {
			t.Errorf("%s: %v counted as %s, want 2", name, got, tc.result)
		}
	}
}

// A filter that says no while the row of a hand-off is on its way ends the event once.
func TestHaltedDuringAHandOff(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
			pass(time.Second)
			return delivery.Attempt{Class: delivery.ClassFiltered, Final: true}
		}
		w.hold(true)
		w.event(d, 1, 1)
		pass(2 * time.Second)
		w.hold(false)
		pass(time.Second)
		if rows := w.stored(); len(rows) != 0 || w.releases(1) != 1 {
			t.Errorf("rows %+v, %d releases; want no row and one release", rows, w.releases(1))
		}
		w.event(d, 2, 1)
		pass(2 * time.Second)
		ups := w.settled()
		if len(ups) != 1 || ups[0].State != delivery.Halted || w.releases(2) != 1 {
			t.Errorf("updates %+v, %d releases; want the leased row halted", ups, w.releases(2))
		}
	})
}

// Leases last as long as the rule's own timeout asks for.
func TestTimeoutOfARule(t *testing.T) {
	t.Parallel()
	const long = 5 * time.Minute
	lane := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 1}
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, time.Second)
		_, lease, _ := d.Room(lane)
		if want := delivery.Lease(10 * time.Second); lease != want {
			t.Errorf("lease %v, want the settings' %v", lease, want)
		}
		w.set(func() { w.limits[1] = rule.Limits{Timeout: long} })
		if _, lease, _ = d.Room(lane); lease != delivery.Lease(long) { // at once: rows claimed for less come back unused
			t.Errorf("lease %v, want %v", lease, delivery.Lease(long))
		}
		w.event(d, 1, 1)
		pass(2 * time.Second)
		if rows := w.stored(); len(rows) != 1 || rows[0].State != delivery.Leased || rows[0].Delay != delivery.Lease(long) {
			t.Errorf("rows %+v, want one leased for %v", rows, delivery.Lease(long))
		}
		settled := len(w.settled())
		d.Resend(claimed(1, 1), time.Now().Add(long+4*time.Second)) // too short to write the result
		pass(2 * time.Second)
		if ups := w.settled()[settled:]; len(ups) != 1 || ups[0].State != delivery.Pending || w.calls(1) != 1 {
			t.Errorf("updates %+v, %d calls; want the claim given back unused", ups, w.calls(1))
		}
		d.Resend(claimed(1, 1), time.Now().Add(long+6*time.Second))
		pass(2 * time.Second)
		if ups := w.settled()[settled+1:]; len(ups) != 1 || ups[0].State != delivery.Delivered {
			t.Errorf("updates %+v, want one delivered", ups)
		}
	})
}

// The row of a request that began right after the rule's timeout was raised is leased for as long as the request may take.
func TestTimeoutThatWasJustRaised(t *testing.T) {
	t.Parallel()
	const long = 5 * time.Minute
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 10*time.Millisecond)
		w.event(d, 1, 1)
		pass(5100 * time.Millisecond) // the lanes have just been looked at
		w.set(func() {
			w.limits[1] = rule.Limits{Timeout: long}
			w.endpoints[1] = answers(200, time.Minute)
		})
		w.event(d, 2, 1)
		// Lowered again while the request is under way: it has what it began with.
		pass(20 * time.Millisecond)
		w.set(func() { w.limits[1] = rule.Limits{} })
		pass(2 * time.Second)
		if rows := w.stored(); len(rows) != 1 || rows[0].Delay != delivery.Lease(long) {
			t.Errorf("rows %+v, want one leased for %v", rows, delivery.Lease(long))
		}
	})
}

// A rule's limits hold from the first request after its pause on, also where the lane has never seen them.
func TestLimitsAfterAPause(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, time.Second)
		w.limits[1] = rule.Limits{Concurrency: 1}
		w.paused[1] = true
		w.event(d, 1, 1)
		synctest.Wait()
		w.set(func() { w.paused[1] = false })
		for n := range 20 {
			w.event(d, 2+n, 1)
		}
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.inFlight != 1 {
			t.Errorf("%d requests under way, want 1", w.inFlight)
		}
	})
}

// Claimed rows that wait for a place are given back while there is time for what the rule's timeout may take.
func TestTimeoutOfARuleAndRowsThatWait(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.limits[1] = rule.Limits{Timeout: 100 * time.Millisecond}
		w.endpoints[1], w.endpoints[2] = answers(200, 0), answers(200, 10*time.Minute)
		w.event(d, 1, 2) // has the only slot
		pass(time.Second)
		d.Resend(claimed(1, 1), time.Now().Add(time.Minute))
		pass(54 * time.Second)
		if ups := w.settled(); len(ups) != 0 {
			t.Errorf("updates %+v; want none while the lease is long enough", ups)
		}
		pass(2 * time.Second)
		if ups := w.settled(); len(ups) != 1 || ups[0].State != delivery.Pending {
			t.Errorf("updates %+v; want the claim given back", ups)
		}
		pass(10 * time.Minute)
	}, func(o *dispatch.Options) { o.Concurrency = 1 })
}

// A rule's own schedule decides, from a second after it has changed at the latest.
func TestRetryScheduleOfARule(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(500, 0)
		n := 0
		delay := func(schedule []time.Duration, attempts int, want time.Duration, state delivery.State) {
			t.Helper()
			w.set(func() { w.limits[1] = rule.Limits{RetrySchedule: schedule} })
			pass(1500 * time.Millisecond)
			if attempts == 0 {
				n++
				w.event(d, n, 1)
				pass(time.Millisecond)
				rows := w.stored()
				if in := rows[len(rows)-1]; in.State != state || in.Delay != want {
					t.Errorf("%v: %v in %v, want %v in %v", schedule, in.State, in.Delay, state, want)
				}
				return
			}
			rows := claimed(1, 1)
			rows[0].Attempts = attempts
			d.Resend(rows, time.Now().Add(time.Minute))
			pass(time.Millisecond)
			ups := w.settled()
			if u := ups[len(ups)-1]; u.State != state || u.Delay != want {
				t.Errorf("%v: %v in %v, want %v in %v", schedule, u.State, u.Delay, state, want)
			}
		}
		delay(nil, 0, 5*time.Second, delivery.Pending)
		delay([]time.Duration{time.Hour}, 0, time.Hour, delivery.Pending)
		delay([]time.Duration{time.Hour}, 1, 0, delivery.Dead)
		delay([]time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour}, 2, 3*time.Hour, delivery.Pending)
		delay(nil, 1, time.Minute, delivery.Pending)
		delay(nil, 2, 0, delivery.Dead)
	})
}
