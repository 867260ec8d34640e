package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
)

func TestPausedRule(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 0)
		w.set(func() { w.paused[1] = true })
		w.event(d, 1, 1)
		d.Resend(claimed(1, 1), time.Now().Add(time.Minute))
		pass(time.Second)
		rows, ups := w.stored(), w.settled()
		if len(rows) != 1 || rows[0].State != delivery.Pending || rows[0].Reason != delivery.ReasonPaused || rows[0].Attempts != 0 ||
			rows[0].Delay != 0 || w.releases(1) != 1 {
			t.Errorf("rows %+v, released %d times; want one untried", rows, w.releases(1))
		}
		if len(ups) != 1 || ups[0].State != delivery.Pending || ups[0].Claims != 1 {
			t.Errorf("updates %+v, want the claim given back", ups)
		}
		if _, _, known := d.Room(lane1); known {
			t.Error("a paused rule's lane is known")
		}
		w.set(func() { w.paused[1] = false })
		w.event(d, 2, 1) // from now on at once
		pass(time.Millisecond)
		if w.calls(1) != 1 || w.releases(2) != 1 || len(w.stored()) != 1 {
			t.Errorf("%d calls after the rule was resumed, %d rows", w.calls(1), len(w.stored()))
		}
		if room, _, known := d.Room(lane1); room != 8 || !known {
			t.Errorf("room %d, known %v after the rule was resumed", room, known)
		}
		if log := w.logged(); len(log) != 0 {
			t.Errorf("attempts logged: %+v", log)
		}
	})
}

// A rule may be paused while its deliveries wait: those under way go on, the others become rows.
func TestRuleIsPausedWhileDeliveriesWait(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 30*time.Second)
		d.Resend(claimed(6, 1), time.Now().Add(2*time.Minute)) // four under way
		for n := range 10 {
			w.event(d, n, 1)
		}
		pass(time.Second)
		w.set(func() { w.paused[1] = true })
		pass(1500 * time.Millisecond)
		if got := w.reasons()[delivery.ReasonPaused]; got != 10 || len(w.settled()) != 2 || w.calls(1) != 4 {
			t.Errorf("%d rows, %d claims given back, %d calls; want 10, 2 and 4", got, len(w.settled()), w.calls(1))
		}
		pass(time.Minute)
		if ups := w.settled(); len(ups) != 6 || ups[5].State != delivery.Delivered {
			t.Errorf("updates %+v, want results of those under way", ups)
		}
	})
}

// The first request that finds its rule paused makes rows of what is behind it, without waiting for anybody to look.
func TestPausedRuleIsFoundOnTheWay(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 100*time.Millisecond)
		for n := range 20 {
			w.event(d, n, 1)
		}
		synctest.Wait()
		w.set(func() { w.paused[1] = true })
		pass(101 * time.Millisecond)
		if got := w.reasons()[delivery.ReasonPaused]; got != 16 || w.calls(1) != 4 {
			t.Errorf("%d rows, %d calls; want 16 and 4", got, w.calls(1))
		}
	})
}

// A shorter wait that an endpoint asks for while a longer one lasts changes nothing, for claimed rows neither.
func TestShorterRetryAfterDuringALongerOne(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		n := 0
		w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
			w.mu.Lock()
			n++
			me := n
			w.mu.Unlock()
			if me == 1 {
				pass(10 * time.Millisecond)
				return delivery.Attempt{Status: 429, RetryAfter: time.Hour}
			}
			pass(20 * time.Millisecond)
			return delivery.Attempt{Status: 429, RetryAfter: time.Second}
		}
		d.Resend(claimed(4, 1), time.Now().Add(time.Minute))
		pass(15 * time.Millisecond)
		d.Resend(claimed(6, 1)[4:], time.Now().Add(time.Minute))
		w.event(d, 1, 1)
		pass(time.Second)
		w.event(d, 2, 1)
		pass(time.Second)
		if w.calls(1) != 4 {
			t.Errorf("%d calls", w.calls(1))
		}
		for _, u := range w.settled() {
			if u.Token[0] > 4 && u.Delay < 59*time.Minute {
				t.Errorf("given back for %v, want until the lane opens", u.Delay)
			}
		}
		for _, r := range w.stored() {
			if r.Delay < 59*time.Minute {
				t.Errorf("row due in %v, want when the lane opens", r.Delay)
			}
		}
	})
}

// The lane closes when the answer comes, however long the row of its delivery takes.
func TestRetryAfterClosesTheLaneWhileARowIsOnItsWay(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
			pass(time.Second)
			return delivery.Attempt{Status: 503, RetryAfter: time.Hour}
		}
		w.hold(true)
		w.event(d, 1, 1)
		pass(2 * time.Second)
		w.event(d, 2, 1)
		pass(time.Minute)
		w.hold(false)
		synctest.Wait()
		if w.calls(1) != 1 || w.releases(1) != 1 || w.releases(2) != 1 {
			t.Errorf("%d calls, released %d and %d times", w.calls(1), w.releases(1), w.releases(2))
		}
	})
}

func TestHealthOfLanes(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		if got := d.Health(); len(got) != 0 {
			t.Errorf("health %+v before any attempt", got)
		}
		began := time.Now()
		w.endpoints[1], w.endpoints[2], w.endpoints[3] = answers(200, time.Second), answers(410, time.Second), hangs
		w.endpoints[4] = changingTo(delivery.Attempt{Class: delivery.ClassCancelled})
		d.Resend(claimed(1, 1), time.Now().Add(time.Minute))
		w.event(d, 1, 2, 3, 4)
		pass(5 * time.Second)
		w.event(d, 2, 2)
		pass(10 * time.Second)
		at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
		want := map[int32]delivery.LaneHealth{
			1: {LastTaken: at(1)},
			2: {FailingSince: at(1), LastFailure: at(6), Gone: 2},
			3: {FailingSince: at(10), LastFailure: at(10)}, // when it ended, not when it was handed off
		}
		got := d.Health()
		for _, h := range got {
			exp := want[h.Lane.RuleID]
			exp.Lane = delivery.Lane{Kind: delivery.KindWebhook, RuleID: h.Lane.RuleID}
			if !h.FailingSince.Equal(exp.FailingSince) || !h.LastFailure.Equal(exp.LastFailure) || !h.LastTaken.Equal(exp.LastTaken) ||
				h.Gone != exp.Gone || h.Lane != exp.Lane {
				t.Errorf("health %+v, want %+v", h, exp)
			}
		}
		if len(got) != len(want) {
			t.Errorf("health of %d lanes, want %d", len(got), len(want))
		}
		d.ResetHealth(delivery.Lane{Kind: delivery.KindWebhook, RuleID: 2})
		d.ResetHealth(delivery.Lane{Kind: delivery.KindWebhook, RuleID: 99})
		if got := d.Health(); len(got) != 2 {
			t.Errorf("health %+v after a reset, want two lanes", got)
		}
	})
}

// A lane whose rule is gone goes as well, with its series, and comes back with its rule.
func TestLaneOfAGoneRuleGoes(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		lanes := func() float64 { return gauge(t, registry, "webhook_dispatcher_breakers", "state", "closed") }
		results := func(rule string) float64 {
			return gauge(t, registry, "webhook_dispatcher_rule_deliveries_total", "rule_id", rule)
		}
		for r := int32(1); r <= 3; r++ {
			w.endpoints[r] = answers(200, time.Millisecond)
		}
		w.event(d, 1, 1, 2, 3)
		pass(time.Second)
		if lanes() != 3 || results("2") != 1 || gauge(t, registry, "webhook_dispatcher_breaker_state", "rule_id", "2") != 0 {
			t.Errorf("%v lanes, %v results of rule 2", lanes(), results("2"))
		}
		w.set(func() { w.inactive[2], w.paused[3] = true, true })
		pass(9 * time.Minute)
		if lanes() != 3 {
			t.Errorf("%v lanes before their time", lanes())
		}
		pass(2 * time.Minute)
		if lanes() != 2 || results("2") != -1 || gauge(t, registry, "webhook_dispatcher_breaker_state", "rule_id", "2") != -1 {
			t.Errorf("%v lanes, want that of the rule that is gone to have gone with its series", lanes())
		}
		if results("1") != 1 || results("3") != 1 {
			t.Error("series of other rules have gone")
		}
		w.set(func() { w.inactive[2] = false })
		w.event(d, 2, 2)
		pass(time.Second)
		if lanes() != 3 || w.releases(2) != 1 || results("2") != 1 {
			t.Errorf("%v lanes, released %d times after the rule came back", lanes(), w.releases(2))
		}
	}, func(o *dispatch.Options) { o.Registerer, o.PerRule = registry, true })
}

func TestBreakerStateOfARule(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		state := func() float64 { return gauge(t, registry, "webhook_dispatcher_breaker_state", "rule_id", "1") }
		var c changing
		trip(t, w, d, &c)
		if state() != 2 {
			t.Errorf("state %v, want 2", state())
		}
		pass(12 * time.Second)
		if state() != 1 {
			t.Errorf("state %v, want 1", state())
		}
		// Its rule goes now: the gauge of half-open lanes must not keep it.
		w.set(func() { w.inactive[1] = true })
		pass(11 * time.Minute)
		for _, s := range []string{"closed", "half_open", "open"} {
			if got := gauge(t, registry, "webhook_dispatcher_breakers", "state", s); got != 0 {
				t.Errorf("%v lanes %s, want none", got, s)
			}
		}
	}, func(o *dispatch.Options) { o.Registerer, o.PerRule = registry, true })
}

// An operator who corrects a rule's URL does not wait for what the old endpoint asked for.
func TestRetryAfterEndsWithItsURL(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.set(func() {
			w.urls = map[int32]string{1: "http://old.example/"}
			w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
				return delivery.Attempt{Status: 503, RetryAfter: 24 * time.Hour}
			}
		})
		w.event(d, 1, 1)
		pass(time.Second)
		w.set(func() { w.endpoints[1] = answers(200, time.Millisecond) })
		pass(2 * time.Second)
		w.event(d, 2, 1)
		pass(time.Second)
		if w.calls(1) != 1 {
			t.Fatalf("%d calls while the endpoint wants to be left alone", w.calls(1))
		}
		w.set(func() { w.urls = map[int32]string{1: "http://new.example/"} })
		pass(2 * time.Second)
		w.event(d, 3, 1)
		pass(time.Second)
		if w.calls(1) != 2 || w.releases(3) != 1 {
			t.Errorf("%d calls, want one to the new URL; released %d times", w.calls(1), w.releases(3))
		}
	})
}
