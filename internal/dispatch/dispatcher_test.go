package dispatch_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// endpoint answers one attempt of a rule's endpoint.
type endpoint func(ctx context.Context, d *delivery.Delivery, number int) delivery.Attempt

func answers(status int, after time.Duration) endpoint {
	return func(ctx context.Context, _ *delivery.Delivery, _ int) delivery.Attempt {
		select {
		case <-time.After(after):
			return delivery.Attempt{Status: status}
		case <-ctx.Done():
			return delivery.Attempt{Class: delivery.ClassCancelled}
		}
	}
}

// world is everything around the dispatcher: endpoints, rules and a queue that stores at once unless told to hold.
type world struct {
	t *testing.T

	mu        sync.Mutex
	endpoints map[int32]endpoint
	inactive  map[int32]bool
	paused    map[int32]bool
	limits    map[int32]rule.Limits
	shaped    map[int32]rule.Rule // what is set of how bodies are made
	urls      map[int32]string
	full      map[int32]bool
	sent      map[int32]int
	inFlight  int
	maxFlight int

	holding  bool
	held     []func()
	rows     []delivery.Insert
	updates  []delivery.Update
	attempts []delivery.Attempt
	maxBody  int
	wakes    int

	released map[int]int
}

func (w *world) Send(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) delivery.Attempt {
	w.mu.Lock()
	w.sent[r.ID]++
	w.inFlight++
	w.maxFlight = max(w.maxFlight, w.inFlight)
	e := w.endpoints[r.ID]
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.inFlight--
		w.mu.Unlock()
	}()
	began := time.Now()
	a := e(ctx, d, number)
	a.ID, a.RuleID, a.Number, a.At, a.Duration = d.ID, d.RuleID, number, began, time.Since(began)
	return a
}

func (w *world) Active(l delivery.Lane) *rule.Rule {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inactive[l.RuleID] || w.paused[l.RuleID] {
		return nil
	}
	row := rule.Row{ID: l.RuleID, URL: w.urls[l.RuleID]}
	shaped := w.shaped[l.RuleID]
	return &rule.Rule{
		Row: row, Kind: l.Kind, Format: cmp.Or(shaped.Format, delivery.FormatJSON), Limits: w.limits[l.RuleID],
		Shape: shaped.Shape, Filter: shaped.Filter, Transform: shaped.Transform,
	}
}

func (w *world) Paused(l delivery.Lane) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paused[l.RuleID]
}

func (w *world) Full(l delivery.Lane) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full[l.RuleID]
}

// set changes something of the world.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) Enqueue(in delivery.Insert, wanted func() bool, stored func()) {
	store := func() {
		if wanted != nil && !wanted() {
			return
		}
		w.mu.Lock()
		w.rows = append(w.rows, in)
		w.mu.Unlock()
		stored()
	}
	w.mu.Lock()
	if w.holding {
		w.held = append(w.held, store)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	go store()
}

func (w *world) Settle(u delivery.Update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.updates = append(w.updates, u)
}

func (w *world) Log(a delivery.Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts = append(w.attempts, a)
}

func (w *world) MaxBody() int { return w.maxBody }

func (w *world) hold(on bool) {
	w.mu.Lock()
	w.holding = on
	held := w.held
	w.held = nil
	w.mu.Unlock()
	if !on {
		for _, store := range held {
			store()
		}
	}
}

// event dispatches one event with a delivery for each rule and counts its releases under n.
func (w *world) event(d *dispatch.Dispatcher, n int, rules ...int32) { w.eventOf(d, 0, n, rules...) }

func idOf(n int, r int32) delivery.ID {
	return delivery.NewID("s", fmt.Sprint(n), "t", delivery.KindWebhook, r, time.Unix(0, 0))
}

// eventOf is event for one of several partitions.
func (w *world) eventOf(d *dispatch.Dispatcher, partition, n int, rules ...int32) {
	ds := make([]delivery.Delivery, len(rules))
	for i, r := range rules {
		ds[i] = delivery.Delivery{
			ID: idOf(n, r), Kind: delivery.KindWebhook, RuleID: r, Format: delivery.FormatJSON, Body: []byte("{}"),
		}
	}
	d.Dispatch(dispatch.Source{Topic: "t", Partition: partition}, ds, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.released[n]++
	})
}

func (w *world) releases(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.released[n]
}

func (w *world) stored() []delivery.Insert {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]delivery.Insert(nil), w.rows...)
}

func (w *world) settled() []delivery.Update {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]delivery.Update(nil), w.updates...)
}

func (w *world) logged() []delivery.Attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]delivery.Attempt(nil), w.attempts...)
}

func (w *world) calls(rule int32) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[rule]
}

func policy(t *testing.T) *delivery.Policy {
	t.Helper()
	p, err := delivery.NewPolicy([]time.Duration{5 * time.Second, time.Minute}, func() float64 { return 0.5 })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run starts a dispatcher in a bubble of its own, with fake time.
func run(t *testing.T, test func(t *testing.T, w *world, d *dispatch.Dispatcher), change ...func(*dispatch.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, endpoints: map[int32]endpoint{}, inactive: map[int32]bool{}, sent: map[int32]int{}, maxBody: 1000,
			released: map[int]int{}, paused: map[int32]bool{}, limits: map[int32]rule.Limits{}, full: map[int32]bool{},
		}
		o := dispatch.Options{
			Sender: w, Rules: w, Queue: w, Policy: policy(t), HandOff: 500 * time.Millisecond, Timeout: 10 * time.Second,
			EndpointConcurrency: 4, Concurrency: 100, Full: w.Full,
			RoomWanted: func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.wakes++
			},
		}
		for _, c := range change {
			c(&o)
		}
		d, err := dispatch.New(o)
		if err != nil {
			t.Fatal(err)
		}
		d.Start()
		test(t, w, d)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

func TestDeliveredIsReleasedWithoutARow(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1], w.endpoints[2] = answers(204, 10*time.Millisecond), answers(200, 300*time.Millisecond)
		w.event(d, 1, 1, 2)
		pass(20 * time.Millisecond)
		if got := w.releases(1); got != 0 {
			t.Errorf("released %d times before the second delivery had ended", got)
		}
		pass(time.Second)
		if got := w.releases(1); got != 1 {
			t.Errorf("released %d times, want once", got)
		}
		if rows, log := w.stored(), w.logged(); len(rows) != 0 || len(log) != 0 {
			t.Errorf("a happy delivery wrote rows %v and attempts %v", rows, log)
		}
	})
}

func TestNothingToDeliverIsReleasedAtOnce(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.event(d, 1)
		if got := w.releases(1); got != 1 {
			t.Errorf("released %d times, want once", got)
		}
	})
}

func TestFailureIsReleasedWhenItsRowIsStored(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(500, 0)
		w.hold(true)
		w.event(d, 1, 1)
		pass(time.Second)
		if got := w.releases(1); got != 0 {
			t.Errorf("released %d times before the row was stored", got)
		}
		w.hold(false)
		if got := w.releases(1); got != 1 {
			t.Errorf("released %d times, want once", got)
		}
		rows := w.stored()
		if len(rows) != 1 || rows[0].State != delivery.Pending || rows[0].Delay != 5*time.Second || rows[0].Attempts != 1 ||
			rows[0].LastStatus != 500 || rows[0].Reason != delivery.ReasonStatus {
			t.Errorf("rows = %+v", rows)
		}
		if log := w.logged(); len(log) != 1 || log[0].Number != 1 {
			t.Errorf("attempts = %+v", log)
		}
	})
}

func TestHandOffReleasesWhileTheRequestGoesOn(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, 3*time.Second)
		w.event(d, 1, 1)
		pass(499 * time.Millisecond)
		if rows := w.stored(); len(rows) != 0 {
			t.Errorf("a row before the hand-off time: %+v", rows)
		}
		pass(200 * time.Millisecond)
		rows := w.stored()
		if len(rows) != 1 || rows[0].State != delivery.Leased || rows[0].Delay != time.Minute || rows[0].Token == (delivery.Token{}) {
			t.Fatalf("rows = %+v, want one leased for a minute", rows)
		}
		if got := w.releases(1); got != 1 {
			t.Errorf("released %d times, want once", got)
		}
		pass(3 * time.Second)
		ups := w.settled()
		if len(ups) != 1 || ups[0].State != delivery.Delivered || ups[0].Token != rows[0].Token || ups[0].Attempts != 1 {
			t.Errorf("updates = %+v, want delivered under the row's token", ups)
		}
		if got := w.calls(1); got != 1 {
			t.Errorf("sent %d times, want once", got)
		}
	})
}

func TestResultOvertakesTheRowOfItsHandOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		rows   int
	}{{"taken: no row at all", 200, 0}, {"failed: a pending row instead of the leased one", 500, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
				w.endpoints[1] = answers(tc.status, 2*time.Second)
				w.hold(true)
				w.event(d, 1, 1)
				pass(5 * time.Second)
				w.hold(false)
				synctest.Wait()
				rows := w.stored()
				if len(rows) != tc.rows || (tc.rows == 1 && rows[0].State != delivery.Pending) {
					t.Errorf("rows = %+v", rows)
				}
				if got := w.releases(1); got != 1 {
					t.Errorf("released %d times, want once", got)
				}
				if ups := w.settled(); len(ups) != 0 {
					t.Errorf("updates of a row that was never leased: %+v", ups)
				}
			})
		})
	}
}

// The batch that a hand-off is in may fail again and again. Its result counts once, or the event would be released while its
// other delivery is neither taken nor a row.
func TestResultOfAHandOffCountsOnceHoweverOftenItIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 500} {
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			w.endpoints[1], w.endpoints[2] = answers(500, 0), answers(status, 2*time.Second)
			w.hold(true)
			w.event(d, 1, 1, 2)
			pass(5 * time.Second)
			w.mu.Lock()
			failed, handOff := w.held[0], w.held[1]
			w.held = nil
			w.mu.Unlock()
			handOff()
			handOff()
			w.hold(false) // what the result called for
			synctest.Wait()
			if got := w.releases(1); got != 0 {
				t.Errorf("status %d: released %d times although the row of the first delivery is not stored", status, got)
			}
			failed()
			if got := w.releases(1); got != 1 {
				t.Errorf("status %d: released %d times, want once", status, got)
			}
			if log := w.logged(); len(log) != 1+status/500 {
				t.Errorf("status %d: attempts = %+v", status, log)
			}
		})
	}
}

func TestBodyThatFitsNoRow(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.maxBody = 1
		w.endpoints[1] = answers(500, 3*time.Second)
		w.event(d, 1, 1)
		pass(2 * time.Second)
		if rows := w.stored(); len(rows) != 0 {
			t.Errorf("handed off although it fits no row: %+v", rows)
		}
		pass(2 * time.Second)
		rows := w.stored()
		if len(rows) != 1 || rows[0].State != delivery.Dead || rows[0].Reason != delivery.ReasonTooLarge || rows[0].Body != nil {
			t.Errorf("rows = %+v, want a dead one without its body", rows)
		}
		if got := w.releases(1); got != 1 {
			t.Errorf("released %d times, want once", got)
		}
	})
}

func TestRuleThatWentAwayIsNotCalled(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.inactive[1] = true
		w.event(d, 1, 1)
		pass(time.Second)
		rows := w.stored()
		if w.calls(1) != 0 || len(rows) != 1 || rows[0].State != delivery.Pending || rows[0].Attempts != 0 {
			t.Errorf("calls %d, rows %+v; want none and one pending", w.calls(1), rows)
		}
		if log := w.logged(); len(log) != 0 {
			t.Errorf("attempts logged for a request that was never made: %+v", log)
		}
	})
}

func TestCloseGivesUpOnRequestsInTheEnd(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
		w.endpoints[1] = answers(200, time.Hour)
		w.event(d, 1, 1)
		pass(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v, want the deadline", err)
		}
		ups := w.settled()
		if len(ups) != 1 || ups[0].State != delivery.Pending || ups[0].Attempts != 0 {
			t.Errorf("updates = %+v, want the row pending again with no attempt counted", ups)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	if _, err := dispatch.New(dispatch.Options{}); err == nil {
		t.Error("empty options were accepted")
	}
}

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }
