package dispatch_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// asInProduction are the defaults of the settings.
func asInProduction(o *dispatch.Options) { o.EndpointConcurrency, o.Concurrency = 64, 1024 }

func hangs(ctx context.Context, _ *delivery.Delivery, _ int) delivery.Attempt {
	select {
	case <-time.After(10 * time.Second):
		return delivery.Attempt{Class: delivery.ClassTimeout}
	case <-ctx.Done():
		return delivery.Attempt{Class: delivery.ClassCancelled}
	}
}

// Endpoints that hang take few of the process's slots, whether they are new or have worked until now: one that works gets slots at once.
func TestHangingEndpointsLeaveSlotsForOthers(t *testing.T) {
	t.Parallel()
	const healthy = 1000
	for _, tc := range []struct {
		lanes  int
		proven bool
	}{{16, false}, {100, false}, {16, true}, {100, true}} {
		t.Run(fmt.Sprintf("%d, proven: %v", tc.lanes, tc.proven), func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				w.endpoints[healthy] = answers(200, 10*time.Millisecond)
				all := make([]int32, tc.lanes)
				for i := range all {
					all[i] = int32(i + 1)
					w.endpoints[all[i]] = answers(200, time.Millisecond)
				}
				n := 0
				if tc.proven {
					for ; n < 300; n++ {
						w.event(d, n, all...)
					}
					pass(time.Minute)
				}
				w.set(func() {
					for _, r := range all {
						w.endpoints[r] = hangs
					}
				})
				for range 100 {
					w.event(d, n, all...)
					n++
				}
				synctest.Wait()
				first := n
				for range 80 {
					w.event(d, n, healthy)
					n++
				}
				pass(105 * time.Millisecond) // ten rounds of eight places, which grow
				if got := w.calls(healthy); got != 80 {
					t.Errorf("%d of 80 requests to the endpoint that works", got)
				}
				for i := first; i < n; i++ {
					if w.releases(i) != 1 {
						t.Errorf("event %d of the endpoint that works is not delivered", i)
						break
					}
				}
				w.mu.Lock()
				if most := 896 + 8 + 64; w.inFlight > most {
					t.Errorf("%d requests hang, want %d at most", w.inFlight, most)
				}
				w.mu.Unlock()
				pass(10 * time.Minute)
			}, asInProduction)
		})
	}
}

// By itself a lane gets as many slots as its limit says, however few there are.
func TestOneLaneGetsAllItsPlaces(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 100*time.Millisecond)
		for n := range 500 {
			w.event(d, n, 1)
		}
		pass(450 * time.Millisecond)
		w.mu.Lock()
		if w.inFlight != 64 {
			t.Errorf("%d requests under way, want 64", w.inFlight)
		}
		w.mu.Unlock()
		pass(time.Minute)
	}, func(o *dispatch.Options) { o.EndpointConcurrency, o.Concurrency = 64, 64 })
}

func TestPlacesGrowWithProof(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 100*time.Millisecond)
		for n := range 400 {
			w.event(d, n, 1)
		}
		for i, want := range []int{8, 16, 32, 64, 64} {
			synctest.Wait()
			w.mu.Lock()
			if w.inFlight != want {
				t.Errorf("round %d: %d requests under way, want %d", i, w.inFlight, want)
			}
			w.mu.Unlock()
			pass(100 * time.Millisecond)
		}
		pass(time.Minute)

		// Now it hangs: after one timeout the breaker is open.
		w.set(func() { w.endpoints[1] = hangs })
		for n := range 400 {
			w.event(d, 1000+n, 1)
		}
		pass(10*time.Second + time.Millisecond)
		w.mu.Lock()
		if w.inFlight != 0 {
			t.Errorf("%d requests under way after 64 got no answer", w.inFlight)
		}
		w.mu.Unlock()
		if room, _, _ := d.Room(lane1); room != 0 {
			t.Errorf("room %d although nothing is answered", room)
		}
		pass(11 * time.Second)
		w.set(func() { w.endpoints[1] = answers(200, 0) })
		w.event(d, 2000, 1)
		pass(time.Second)
		if room, _, _ := d.Room(lane1); room != 8 {
			t.Errorf("room %d with the breaker closed, want twice the least places", room)
		}
	}, asInProduction)
}

// A request that got no answer in time halves the places, long before the breaker opens.
func TestTimeoutsTakePlaces(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, time.Millisecond)
		for n := range 100 {
			w.event(d, n, 1)
		}
		pass(time.Second)
		for i, tc := range []struct {
			a      delivery.Attempt
			places int
		}{
			{delivery.Attempt{Status: 500}, 64},
			{delivery.Attempt{Class: delivery.ClassConnect}, 64},
			{delivery.Attempt{Class: delivery.ClassTimeout}, 32},
			{delivery.Attempt{Class: delivery.ClassTimeout}, 16},
			{delivery.Attempt{Status: 204}, 17},
		} {
			w.set(func() { w.endpoints[1] = changingTo(tc.a) })
			w.event(d, 200+i, 1)
			pass(time.Millisecond)
			if room, _, _ := d.Room(lane1); room != 2*tc.places {
				t.Errorf("room %d after %+v, want twice %d places", room, tc.a, tc.places)
			}
		}
	}, asInProduction)
}

func TestLimitsAreReadFromTheRule(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		flying := func(want int) {
			t.Helper()
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.inFlight != want {
				t.Errorf("%d requests under way, want %d", w.inFlight, want)
			}
		}
		limit := func(n int) {
			w.set(func() { w.limits[1] = rule.Limits{Concurrency: n} })
		}
		w.endpoints[1] = answers(200, 1500*time.Millisecond)
		limit(2)
		for n := range 200 {
			w.event(d, n, 1)
		}
		flying(2) // from the first request on
		limit(6)
		pass(1200 * time.Millisecond)
		flying(6) // at most a second after the edit
		limit(1)  // below what is under way: nothing is cut short
		pass(2 * time.Second)
		flying(1)
		limit(0) // the setting's
		pass(10 * time.Second)
		flying(4)
		pass(time.Hour)
		for n := range 200 {
			if w.releases(n) != 1 {
				t.Errorf("event %d released %d times", n, w.releases(n))
			}
		}
	})
}
