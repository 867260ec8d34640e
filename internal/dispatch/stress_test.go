package dispatch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// TestEverythingIsAccountedFor throws all that can happen at a few lanes at random: every way to answer, claims, pressure of two
// partitions, drains, pauses, rules that go for long and come back, limits, rates and the queue limit. Each event is released exactly
// once, or not at all where a drain gave it up; each claimed row gets one result; and each delivery of a released event was taken or
// is a row.
func TestEverythingIsAccountedFor(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			deadLetter := seed%2 == 1
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) { chaos(t, w, d, seed) }, func(o *dispatch.Options) {
				o.DeadLetterOverflow = deadLetter
				o.Concurrency = 12
				o.PerRule = true
			})
		})
	}
}

const chaosRules = 6

// dice are shared by the goroutines of a bubble.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

func (d *dice) answer(ctx context.Context) delivery.Attempt {
	select {
	case <-time.After(time.Duration(d.n(1200)) * time.Millisecond):
	case <-ctx.Done():
		return delivery.Attempt{Class: delivery.ClassCancelled}
	}
	switch d.n(12) {
	case 0:
		return delivery.Attempt{Status: 410}
	case 1:
		return delivery.Attempt{Status: 429, RetryAfter: time.Duration(1+d.n(5)) * time.Second}
	case 2:
		return delivery.Attempt{Class: delivery.ClassTimeout}
	case 3:
		return delivery.Attempt{Class: delivery.ClassEgress}
	case 4:
		return delivery.Attempt{Class: delivery.ClassCancelled}
	case 5:
		return delivery.Attempt{Status: 404}
	}
	return delivery.Attempt{Status: 200}
}

// chaos does some 4,000 things, three at a time, with drains in between: no event comes during one.
func chaos(t *testing.T, w *world, d *dispatch.Dispatcher, seed uint64) {
	rnd := &dice{rng: rand.New(rand.NewPCG(seed, 7))}
	var taken sync.Map // by webhook id
	down := map[int32]bool{}
	for r := int32(1); r <= chaosRules; r++ {
		w.endpoints[r] = func(ctx context.Context, del *delivery.Delivery, _ int) delivery.Attempt {
			w.mu.Lock()
			dead := down[r]
			w.mu.Unlock()
			a := rnd.answer(ctx)
			if dead && a.Class != delivery.ClassCancelled {
				a = delivery.Attempt{Status: 500}
			}
			if a.OK() {
				taken.Store(del.ID, true)
			}
			return a
		}
	}
	var mu sync.Mutex
	rulesOf := map[int][]int32{}
	events, rows, given := 0, 0, 0
	flip := func(m map[int32]bool) {
		r := int32(1 + rnd.n(chaosRules))
		w.set(func() { m[r] = !m[r] })
	}
	something := func() {
		r := int32(1 + rnd.n(chaosRules))
		switch what := rnd.n(100); {
		case what < 70:
			var rules []int32
			for r := int32(1); r <= chaosRules; r++ {
				if rnd.n(3) == 0 {
					rules = append(rules, r)
				}
			}
			mu.Lock()
			n := events
			events++
			rulesOf[n] = rules
			mu.Unlock()
			w.eventOf(d, rnd.n(2), n, rules...)
		case what < 76:
			batch := claimed(1+rnd.n(3), r)
			mu.Lock()
			for i := range batch {
				rows++
				batch[i].Token = delivery.Token{1, byte(rows), byte(rows >> 8)}
			}
			mu.Unlock()
			d.Resend(batch, time.Now().Add(time.Duration(14+rnd.n(60))*time.Second))
		case what < 80:
			d.Backpressure(dispatch.Source{Topic: "t", Partition: rnd.n(2)})
		case what < 82:
			flip(w.paused)
		case what < 85:
			w.set(func() { w.full[r] = rnd.n(6) == 0 })
		case what < 86:
			flip(w.inactive)
		case what < 89:
			flip(down)
		case what < 91:
			w.set(func() { w.limits[r] = rule.Limits{Concurrency: rnd.n(8), Rate: float64(rnd.n(4) * rnd.n(10))} })
		case what < 92 && rnd.n(20) == 0:
			pass(11 * time.Minute) // lanes of rules that are gone go
		default:
			pass(time.Duration(rnd.n(1000)) * time.Millisecond)
		}
		d.Room(delivery.Lane{Kind: delivery.KindWebhook, RuleID: r})
	}
	for range 14 {
		var three sync.WaitGroup
		for range 3 {
			three.Go(func() {
				for range 100 {
					something()
				}
			})
		}
		three.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(500+rnd.n(3000))*time.Millisecond)
		away := rnd.n(4) == 0 // the database
		w.hold(away)
		if d.Drain(ctx) != nil {
			given++
		}
		cancel()
		w.hold(false)
	}
	w.set(func() {
		clear(w.full)
		clear(w.paused)
		clear(w.inactive)
		clear(down)
		clear(w.limits)
	})
	pass(3 * time.Hour)
	t.Logf("%d events, %d claimed rows, %d drains that gave something up", events, rows, given)

	row := map[delivery.ID]int{}
	for _, in := range w.stored() {
		row[in.ID]++
	}
	unreleased := 0
	for n := range events {
		switch got := w.releases(n); {
		case got > 1:
			t.Errorf("event %d released %d times", n, got)
		case got == 0:
			unreleased++
		default:
			for _, r := range rulesOf[n] {
				id := idOf(n, r)
				if _, ok := taken.Load(id); !ok && row[id] == 0 {
					t.Errorf("event %d was released, and its delivery to rule %d was neither taken nor is it a row", n, r)
				}
				if row[id] > 1 {
					t.Errorf("event %d, rule %d: %d rows", n, r, row[id])
				}
			}
		}
	}
	if unreleased > 0 && given == 0 {
		t.Errorf("%d events are not released although no drain gave anything up", unreleased)
	}
	if left := unreleased; left > events/2 {
		t.Errorf("%d of %d events are not released: the test says little", left, events)
	}
	results := map[delivery.Token]int{}
	for _, u := range w.settled() {
		if u.Token[0] == 1 {
			results[u.Token]++
		}
	}
	for i := 1; i <= rows; i++ {
		if got := results[delivery.Token{1, byte(i), byte(i >> 8)}]; got != 1 {
			t.Errorf("claimed row %d got %d results", i, got)
		}
	}
	if w.inFlight != 0 {
		t.Errorf("%d requests under way in the end", w.inFlight)
	}
	if w.maxFlight > 12 {
		t.Errorf("%d requests at once, want 12", w.maxFlight)
	}
	// Nothing is stuck: every lane works again.
	for r := int32(1); r <= chaosRules; r++ {
		w.set(func() { w.endpoints[r] = answers(200, 0) })
		w.event(d, 100_000+int(r), r)
		pass(time.Minute)
		w.event(d, 200_000+int(r), r)
		pass(time.Second)
		if w.releases(200_000+int(r)) != 1 {
			t.Errorf("lane %d is stuck", r)
		}
		if room, _, known := d.Room(delivery.Lane{Kind: delivery.KindWebhook, RuleID: r}); room < 8 || !known {
			t.Errorf("lane %d: room %d, known %v in the end", r, room, known)
		}
	}
}
