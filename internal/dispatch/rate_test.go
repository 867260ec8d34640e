package dispatch_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

func TestRateOfALane(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		setting float64
		rule    float64
		after   time.Duration
		want    int // requests by then, the burst included
	}{
		{"none", 0, 0, time.Second, 1000},
		{"the setting's, at first", 20, 0, 0, 20},
		{"each at its time", 10, 0, 450 * time.Millisecond, 14},
		{"the setting's", 20, 0, 10 * time.Second, 220},
		{"the rule's goes before", 20, 5, 10 * time.Second, 55},
		{"one in two seconds", 0, 0.5, 20 * time.Second, 11},
		{"more than one a millisecond", 0, 5000, 0, 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				w.endpoints[1] = answers(200, 0)
				w.set(func() { w.limits[1] = rule.Limits{Rate: tc.rule} })
				for n := range 1000 {
					w.event(d, n, 1)
				}
				pass(tc.after + 5*time.Millisecond)
				if got := w.calls(1); got != tc.want {
					t.Errorf("%d requests in %v, want %d", got, tc.after, tc.want)
				}
			}, func(o *dispatch.Options) { o.EndpointRate = tc.setting })
		})
	}
}

// A lane that waits for a token keeps no other from its slots, and is no reason to make rows of others' deliveries.
func TestWaitingForATokenHoldsNoSlot(t *testing.T) {
	t.Parallel()
	src := dispatch.Source{Topic: "t"}
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(200, 0), answers(200, time.Second)
		w.set(func() { w.limits[1] = rule.Limits{Rate: 1} })
		for n := range 10 {
			w.event(d, n, 1)
		}
		pass(time.Millisecond)
		for n := range 10 {
			w.event(d, 100+n, 2)
		}
		synctest.Wait()
		if got := w.calls(2); got != 1 {
			t.Errorf("%d calls, want the only slot for the lane without a rate", got)
		}
		pass(8 * time.Second) // long after the patience with lanes that hang
		d.Backpressure(src)
		synctest.Wait()
		if rows := w.stored(); len(rows) != 0 {
			for _, r := range rows {
				if r.Reason == delivery.ReasonSpill {
					t.Errorf("spilled %+v", r)
				}
			}
		}
		pass(10 * time.Minute)
		for _, n := range []int{0, 9, 100, 109} {
			if w.releases(n) != 1 {
				t.Errorf("event %d released %d times", n, w.releases(n))
			}
		}
	}, func(o *dispatch.Options) { o.Concurrency = 1 })
}

// An idle lane that has used its tokens is not starving; one that waits for them gives way to one that is.
func TestPressureAndRates(t *testing.T) {
	t.Parallel()
	src := dispatch.Source{Topic: "t"}
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2], w.endpoints[3] = answers(200, 0), answers(200, 400*time.Millisecond), answers(200, 0)
		w.set(func() { w.limits[1] = rule.Limits{Rate: 0.1} })
		w.event(d, 1, 1) // uses the token
		for n := range 50 {
			w.event(d, 100+n, 2)
		}
		synctest.Wait()
		d.Backpressure(src)
		synctest.Wait()
		if rows := w.stored(); len(rows) != 0 {
			t.Errorf("%d rows although the other lane has no token", len(rows))
		}
		w.event(d, 2, 1)
		w.event(d, 3, 1)
		w.event(d, 4, 3)
		synctest.Wait()
		d.Backpressure(src)
		synctest.Wait()
		if got := w.reasons()[delivery.ReasonSpill]; got != 46+2 {
			t.Errorf("%d rows, want what waits for a place and what waits for a token", got)
		}
	})
}

func TestRoomOfALaneWithARate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rate  float64
		used  int
		after time.Duration
		want  int
	}{
		{0, 0, 0, 16},
		{100, 0, 0, 16}, // as many as without
		{0.5, 0, 0, 8},  // one at once and 15 seconds' worth, a quarter of the lease
		{0.5, 1, 0, 7},
		{0.1, 0, 0, 2},
		{0.01, 0, 0, 1},
		{0.01, 1, 80 * time.Second, 0}, // the next token is too far away
		{0.01, 1, 90 * time.Second, 1},
	} {
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.endpoints[1] = answers(200, 0)
			w.set(func() { w.limits[1] = rule.Limits{Rate: tc.rate} })
			d.Resend(claimed(tc.used, 1), time.Now().Add(time.Minute))
			pass(tc.after)
			synctest.Wait()
			if room, _, _ := d.Room(lane1); room != tc.want {
				t.Errorf("%v a second, %d used, after %v: room %d, want %d", tc.rate, tc.used, tc.after, room, tc.want)
			}
		}, func(o *dispatch.Options) { o.EndpointConcurrency = 8 })
	}
}

// Claimed rows wait for tokens as well, and none of them waits beyond its lease.
func TestClaimedRowsWaitForTokens(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 0)
		w.set(func() { w.limits[1] = rule.Limits{Rate: 2} })
		for range 100 {
			room, lease, _ := d.Room(lane1)
			if room > 0 {
				d.Resend(claimed(room, 1), time.Now().Add(lease))
			}
			pass(time.Second)
		}
		if got := w.calls(1); got < 195 || got > 202 {
			t.Errorf("%d requests in 100 seconds, want 200", got)
		}
		for _, u := range w.settled() {
			if u.State != delivery.Delivered {
				t.Fatalf("given back: %+v", u)
			}
		}
	})
}
