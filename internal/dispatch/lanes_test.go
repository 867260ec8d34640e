package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
)

func TestHangingEndpointTakesNoSlotOfAnother(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(200, 10*time.Second), answers(200, time.Millisecond)
		for n := range 100 {
			w.event(d, n, 1)
		}
		begin := time.Now()
		for n := range 100 {
			w.event(d, 1000+n, 2)
		}
		pass(30 * time.Millisecond) // 100 requests of 1 ms, four at a time
		for n := range 100 {
			if w.releases(1000+n) != 1 {
				t.Fatalf("event %d of the healthy endpoint is not delivered after %v", n, time.Since(begin))
			}
		}
		pass(10 * time.Minute)
	})
}

func TestProcessCapIsSharedInTurn(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		for r := int32(1); r <= 3; r++ {
			w.endpoints[r] = answers(200, 10*time.Millisecond)
			for n := range 10 {
				w.event(d, int(r)*100+n, r)
			}
		}
		pass(55 * time.Millisecond) // five rounds of two slots
		for r := int32(1); r <= 3; r++ {
			if got := w.calls(r); got < 2 {
				t.Errorf("rule %d was called %d times while others had the slots", r, got)
			}
		}
		pass(time.Second)
		synctest.Wait()
		if w.maxFlight != 2 {
			t.Errorf("%d requests at once, want 2", w.maxFlight)
		}
		for r := range 3 {
			for n := range 10 {
				if got := w.releases((r+1)*100 + n); got != 1 {
					t.Errorf("event %d of rule %d released %d times", n, r+1, got)
				}
			}
		}
	}, func(o *dispatch.Options) { o.Concurrency = 2 })
}

func TestKafkaIsTheQueueWhileNobodySuffers(t *testing.T) {
	t.Parallel()
	src := dispatch.Source{Topic: "t"}
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(200, 400*time.Millisecond), answers(200, 0)
		for n := range 50 {
			w.event(d, n, 1)
		}
		synctest.Wait()
		d.Backpressure(src)
		synctest.Wait()
		if rows := w.stored(); len(rows) != 0 {
			t.Fatalf("%d rows although no other lane has work", len(rows))
		}

		w.event(d, 100, 2) // now the partition feeds a lane that is soon idle
		synctest.Wait()
		d.Backpressure(src)
		synctest.Wait()
		rows := w.stored()
		if len(rows) != 46 { // 50 less the four under way
			t.Errorf("%d rows, want 46", len(rows))
		}
		for _, r := range rows {
			if r.State != delivery.Pending || r.Reason != delivery.ReasonSpill || r.Attempts != 0 {
				t.Fatalf("row %+v, want pending, spill, no attempt", r)
			}
		}
		pass(time.Second)
		for n := range 50 {
			if got := w.releases(n); got != 1 {
				t.Errorf("event %d released %d times", n, got)
			}
		}
	})
}

func TestHangingEndpointAloneDoesNotHoldUpWhatIsBehind(t *testing.T) {
	t.Parallel()
	src := dispatch.Source{Topic: "t"}
	for _, tc := range []struct {
		name string
		e    endpoint
		rows bool // among those that wait
	}{
		{"hangs", answers(200, time.Minute), true},
		{"is slow but takes what it gets", answers(200, time.Second), false},
		{"is fast", answers(200, 10*time.Millisecond), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				w.endpoints[1] = tc.e
				spilled := func() (n int) {
					for _, r := range w.stored() {
						if r.Reason == delivery.ReasonSpill {
							n++
						}
					}
					return n
				}
				n := 0
				for range 100 { // ten seconds of pressure, with more behind what is there
					for range 100 {
						w.event(d, n, 1)
						n++
					}
					if n > 4000 && !tc.rows && spilled() > 0 {
						t.Fatalf("%d rows for an endpoint that works", spilled())
					}
					pass(100 * time.Millisecond)
					if n == 4000 && spilled() > 0 {
						t.Errorf("%d rows after only four seconds", spilled())
					}
					d.Backpressure(src)
				}
				synctest.Wait()
				if got := spilled() > 0; got != tc.rows {
					t.Errorf("rows of what waits: %v, want %v", got, tc.rows)
				}
			})
		})
	}
}

func TestPressureOfOnePartitionLeavesAnotherAlone(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(200, 400*time.Millisecond), answers(200, 0)
		for n := range 10 {
			w.event(d, n, 1, 2)
		}
		synctest.Wait()
		d.Backpressure(dispatch.Source{Topic: "t", Partition: 7})
		synctest.Wait()
		if rows := w.stored(); len(rows) != 0 {
			t.Errorf("%d rows for a partition that is not pressed", len(rows))
		}
	})
}

func TestPressureSpillsWhatIsItsOwn(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(200, 400*time.Millisecond), answers(200, 0)
		for n := range 20 {
			w.eventOf(d, n%2, n, 1)
		}
		w.eventOf(d, 1, 100, 2)
		synctest.Wait()
		d.Backpressure(dispatch.Source{Topic: "t", Partition: 1})
		synctest.Wait()
		if got := len(w.stored()); got != 8 { // of ten, less two under way
			t.Errorf("%d rows, want the eight that partition 1 waits for", got)
		}
	})
}

func TestRetryAfterClosesTheLane(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
			pass(time.Millisecond)
			return delivery.Attempt{Status: 429, RetryAfter: time.Minute}
		}
		for n := range 10 {
			w.event(d, n, 1)
		}
		pass(2 * time.Millisecond)
		if got := len(w.stored()); got != 10 {
			t.Errorf("%d rows right after the answer, want all ten", got)
		}
		pass(time.Second)
		w.event(d, 10, 1)
		synctest.Wait()
		if got := w.calls(1); got > 4 {
			t.Errorf("%d calls although the endpoint asked for a minute of patience with the first four", got)
		}
		rows := w.stored()
		if len(rows) != 11 {
			t.Fatalf("%d rows, want 11", len(rows))
		}
		for _, r := range rows {
			if r.Attempts != 0 || r.Reason != delivery.ReasonRetryAfter || r.Delay < 58*time.Second || r.Delay > time.Minute {
				t.Errorf("row %+v, want due in about a minute with no attempt counted", r)
			}
		}
		lane := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 1}
		if room, _, known := d.Room(lane); room != 0 || !known {
			t.Errorf("room %d, known %v in a closed lane", room, known)
		}
		pass(time.Minute)
		if room, _, _ := d.Room(lane); room != 8 {
			t.Errorf("room %d after the lane opened, want 8", room)
		}
	})
}

func claimed(n int, rule int32) []delivery.Row {
	rows := make([]delivery.Row, n)
	for i := range rows {
		rows[i] = delivery.Row{
			Delivery: delivery.Delivery{Kind: delivery.KindWebhook, RuleID: rule, Body: []byte("{}")},
			Token:    delivery.Token{byte(i + 1)}, State: delivery.Leased, Claims: 2, Attempts: 1,
		}
	}
	return rows
}

func TestClaimedRows(t *testing.T) {
	t.Parallel()
	lane := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 1}
	lease := func() time.Time { return time.Now().Add(time.Minute) }

	t.Run("results are written under their tokens", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.endpoints[1] = func(_ context.Context, d *delivery.Delivery, number int) delivery.Attempt {
				if number != 2 {
					t.Errorf("attempt number %d, want 2", number)
				}
				return delivery.Attempt{Status: 503}
			}
			d.Resend(claimed(1, 1), lease())
			pass(time.Second)
			ups := w.settled()
			if len(ups) != 1 || ups[0].State != delivery.Pending || ups[0].Delay != time.Minute || ups[0].Attempts != 2 ||
				ups[0].Token != (delivery.Token{1}) {
				t.Errorf("updates = %+v", ups)
			}
		})
	})
	t.Run("a lease that ends too soon is given back", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			d.Resend(claimed(1, 1), time.Now().Add(14*time.Second))
			pass(time.Second)
			ups := w.settled()
			if len(ups) != 1 || ups[0].State != delivery.Pending || ups[0].Claims != 1 || w.calls(1) != 0 {
				t.Errorf("updates = %+v, calls %d; want the claim given back unused", ups, w.calls(1))
			}
		})
	})
	t.Run("a lease that runs out while no slot is free is given back in time", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.endpoints[1], w.endpoints[2] = answers(200, 0), answers(200, 10*time.Minute)
			w.event(d, 1, 2) // has the only slot
			pass(time.Second)
			d.Resend(claimed(2, 1), lease())
			pass(44 * time.Second)
			if ups := w.settled(); len(ups) != 0 {
				t.Errorf("given back too early: %+v", ups)
			}
			pass(2 * time.Second)
			ups := w.settled()
			if len(ups) != 2 || ups[0].State != delivery.Pending || ups[0].Claims != 1 || ups[1].Claims != 1 {
				t.Errorf("updates = %+v; want both claims given back before the lease has run out", ups)
			}
			pass(time.Hour)
			if got := w.calls(1); got != 0 {
				t.Errorf("sent %d times without a lease", got)
			}
		}, func(o *dispatch.Options) { o.Concurrency = 1 })
	})
	t.Run("a rule that is not active has no room and gets no request", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.inactive[1] = true
			if _, _, known := d.Room(lane); known {
				t.Error("an inactive rule's lane is known")
			}
			d.Resend(claimed(1, 1), lease())
			pass(time.Second)
			if ups := w.settled(); len(ups) != 1 || ups[0].State != delivery.Pending || w.calls(1) != 0 {
				t.Errorf("updates = %+v, calls %d", ups, w.calls(1))
			}
		})
	})
	t.Run("room shrinks while first tries wait, and more is asked for when half is done", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.endpoints[1] = answers(200, 100*time.Millisecond)
			if room, l, _ := d.Room(lane); room != 8 || l != time.Minute {
				t.Errorf("room %d, lease %v in an idle lane; want twice the limit and a minute", room, l)
			}
			d.Resend(claimed(8, 1), lease())
			if room, _, _ := d.Room(lane); room != 0 {
				t.Errorf("room %d with 8 rows held", room)
			}
			pass(150 * time.Millisecond)
			w.mu.Lock()
			if w.wakes != 1 {
				t.Errorf("%d wakes with half of the rows sent, want 1", w.wakes)
			}
			w.mu.Unlock()
			pass(time.Second)
			for n := range 10 {
				w.event(d, n, 1)
			}
			if room, _, _ := d.Room(lane); room != 1 {
				t.Errorf("room %d while first tries wait, want a quarter of the limit", room)
			}
		})
	})
	t.Run("close returns what waits and waits for what is under way", func(t *testing.T) {
		t.Parallel()
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.endpoints[1] = answers(200, 5*time.Second)
			d.Resend(claimed(8, 1), lease())
			pass(time.Second)
			if err := d.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := map[delivery.State]int{}
			for _, u := range w.settled() {
				got[u.State]++
			}
			if got[delivery.Delivered] != 4 || got[delivery.Pending] != 4 {
				t.Errorf("updates by state: %v, want 4 delivered and 4 returned", got)
			}
		})
	})
}

func TestDrainMakesRowsOfEverything(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 300*time.Millisecond)
		for n := range 10 {
			w.event(d, n, 1)
		}
		pass(time.Millisecond)
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		states := map[delivery.State]int{}
		for _, r := range w.stored() {
			states[r.State]++
		}
		if states[delivery.Leased] != 4 || states[delivery.Pending] != 6 {
			t.Errorf("rows by state: %v, want 4 leased and 6 pending", states)
		}
		for n := range 10 {
			if got := w.releases(n); got != 1 {
				t.Errorf("event %d released %d times", n, got)
			}
		}
		pass(time.Second)
		if ups := w.settled(); len(ups) != 4 {
			t.Errorf("%d results after the drain, want those of the 4 requests under way", len(ups))
		}
		w.event(d, 100, 1) // the dispatcher goes on
		pass(time.Second)
		if w.releases(100) != 1 {
			t.Error("an event after the drain is not released")
		}
	})
}

func TestDrainWithoutADatabaseDropsAndReleasesNothing(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 3*time.Second)
		w.hold(true)
		for n := range 10 {
			w.event(d, n, 1)
		}
		pass(time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("drain: %v, want the deadline", err)
		}
		pass(10 * time.Second)
		w.hold(false)
		pass(10 * time.Second)
		for n := range 10 {
			if got := w.releases(n); got != 0 {
				t.Errorf("event %d released %d times for a partition that was given up", n, got)
			}
		}
		if rows := w.stored(); len(rows) != 0 {
			t.Errorf("%d rows written for records that are read again", len(rows))
		}
		if got := w.calls(1); got != 4 {
			t.Errorf("%d calls, want only the 4 that were under way", got)
		}
	})
}

// TestEveryEventIsReleasedOnce throws random latencies, failures, pressure and drains at a few lanes.
func TestEveryEventIsReleasedOnce(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		rng := rand.New(rand.NewPCG(1, 2))
		statuses := []int{200, 200, 200, 500, 410, 404}
		for r := int32(1); r <= 5; r++ {
			w.endpoints[r] = func(context.Context, *delivery.Delivery, int) delivery.Attempt {
				w.mu.Lock()
				pause, status := time.Duration(rng.IntN(1500))*time.Millisecond, statuses[rng.IntN(len(statuses))]
				w.mu.Unlock()
				pass(pause)
				a := delivery.Attempt{Status: status}
				if status == 404 {
					a = delivery.Attempt{Status: 503, RetryAfter: 2 * time.Second}
				}
				return a
			}
		}
		const events = 3000
		for n := range events {
			rules := make([]int32, 0, 5)
			for r := int32(1); r <= 5; r++ {
				if (n>>r)&1 == 1 {
					rules = append(rules, r)
				}
			}
			w.event(d, n, rules...)
			switch {
			case n%500 == 499:
				if err := d.Drain(t.Context()); err != nil {
					t.Fatal(err)
				}
			case n%50 == 0:
				d.Backpressure(dispatch.Source{Topic: "t"})
			case n%7 == 0:
				pass(100 * time.Millisecond)
			}
		}
		pass(time.Hour)
		for n := range events {
			if got := w.releases(n); got != 1 {
				t.Errorf("event %d released %d times", n, got)
			}
		}
	})
}

func TestDeathsAreLoggedOnceAMinuteEach(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(410, time.Millisecond), answers(410, time.Millisecond)
		for n := range 20 {
			w.event(d, n, 1, 2)
		}
		pass(time.Second)
		if got := strings.Count(log.String(), "delivery dead-lettered"); got != 2 {
			t.Errorf("%d lines for 20 deaths of each of two rules, want one each:\n%s", got, log.String())
		}
		pass(time.Minute)
		w.event(d, 100, 1)
		pass(time.Second)
		if got := strings.Count(log.String(), "delivery dead-lettered"); got != 3 || !strings.Contains(log.String(), "reason=gone") {
			t.Errorf("%d lines a minute later, want another one, with its reason:\n%s", got, log.String())
		}
	}, func(o *dispatch.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
