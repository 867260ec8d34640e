package filtering

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	handOff  = 500 * time.Millisecond
	deadline = 2 * time.Second
	class    = "openedx_events.learning.data.UserData"
)

// world is everything around a stage: filters that answer after a while, and a database that takes a while.
type world struct {
	t     *testing.T
	stage *Stage

	mu        sync.Mutex
	takes     time.Duration
	outcome   webfilter.Outcome
	calls     int
	away      bool          // the database is
	storing   time.Duration // how long it takes to store a row
	full      bool
	rows      map[delivery.ID]delivery.Insert
	settled   []delivery.Update
	attempts  []delivery.Attempt
	finished  map[delivery.ID][]delivery.Insert
	delivered []string
	released  []string
	woken     int
}

func newWorld(t *testing.T, concurrency int) *world {
	w := &world{t: t, rows: map[delivery.ID]delivery.Insert{}, finished: map[delivery.ID][]delivery.Insert{}}
	stage, err := New(Options{
		Filters: w, Queue: w, Store: w, Plan: w.plan, HandOff: handOff, Deadline: deadline, Concurrency: concurrency,
		Full: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.full }, RowsMade: func() { w.mu.Lock(); w.woken++; w.mu.Unlock() },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.stage = stage
	t.Cleanup(func() {
		if err := stage.Close(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return w
}

// Run implements Filters.
func (w *world) Run(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error) {
	w.mu.Lock()
	w.calls++
	takes, outcome := w.takes, w.outcome
	w.mu.Unlock()
	if !strings.HasPrefix(string(q.Body), `{"`+class+`": {"id": `) || q.Filter != "org.openedx.test.v1" || !q.Halting {
		w.t.Errorf("the filters were asked %+v", q)
	}
	select {
	case <-time.After(takes):
		return &outcome, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Park implements Queue.
func (w *world) Park(in delivery.Insert, wanted func() bool, stored func()) {
	go func() {
		for {
			w.mu.Lock()
			away, storing := w.away, w.storing
			w.mu.Unlock()
			<-time.After(storing + time.Millisecond)
			if !away {
				break
			}
		}
		if !wanted() {
			return
		}
		w.mu.Lock()
		w.rows[in.ID] = in
		w.mu.Unlock()
		stored()
	}()
}

// Settle implements Queue.
func (w *world) Settle(u delivery.Update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = append(w.settled, u)
}

// Log implements Queue.
func (w *world) Log(a delivery.Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts = append(w.attempts, a)
}

// MaxBody implements Queue.
func (w *world) MaxBody() int { return 1000 }

// FinishEvent implements Store.
func (w *world) FinishEvent(_ context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return false, errors.New("the database is away")
	}
	if w.rows[id].Token != token {
		return false, nil
	}
	delete(w.rows, id)
	w.finished[id] = rows
	return true, nil
}

func (w *world) plan(m *payload.Message) []delivery.Delivery {
	return []delivery.Delivery{{ID: delivery.ID{1}, Kind: delivery.KindWebhook, RuleID: 7, Body: m.Body(delivery.FormatJSON)}}
}

func message(n int, text string) *payload.Message {
	data := payload.ObjectValue([]string{"id", "text"}, []payload.Value{payload.IntValue(int64(n)), payload.StringValue(text)})
	return &payload.Message{
		Event: event.Event{Type: "org.openedx.test.v1", ID: fmt.Sprint(n), Source: "lms", Time: time.Unix(1700000000, 0).UTC()},
		Data:  payload.ObjectValue([]string{class}, []payload.Value{data}),
	}
}

func (w *world) submit(n int, text string) {
	m := message(n, text)
	w.stage.Submit(m, func(m *payload.Message) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.delivered = append(w.delivered, string(m.Body(delivery.FormatJSON)))
	}, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.released = append(w.released, m.Event.ID)
	})
}

func (w *world) set(change func()) { w.mu.Lock(); defer w.mu.Unlock(); change() }

// is checks what has come of the events so far.
func (w *world) is(what string, delivered, released, rows, finished int) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := [...]int{len(w.delivered), len(w.released), len(w.rows), len(w.finished)}
	if got != [...]int{delivered, released, rows, finished} {
		w.t.Errorf("%s: delivered, released, rows, finished are %v, want %v", what, got, [...]int{delivered, released, rows, finished})
	}
}

// stored returns the rows as they are now.
func (w *world) stored() []delivery.Insert {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.rows))
}

func objectOf(pairs ...string) payload.Value {
	var entries payload.Entries
	for i := 0; i < len(pairs); i += 2 {
		entries.Set(pairs[i], payload.StringValue(pairs[i+1]))
	}
	return entries.Object()
}

func TestFiltersThatAreQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.set(func() {
			w.takes = 100 * time.Millisecond
			w.outcome.Data = objectOf(class, "changed", "more", "added", "event_metadata", "forged")
		})
		w.submit(1, "x")
		w.is("before the filters have spoken", 0, 0, 0, 0)
		<-time.After(w.takes)
		w.is("after", 1, 0, 0, 0) // the deliveries release it
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, want := range []string{`{"` + class + `": "changed", "more": "added", "event_metadata": {"event_type": "org.openedx.test.v1"`} {
			if !strings.HasPrefix(w.delivered[0], want) {
				t.Errorf("delivered %s, want %s…", w.delivered[0], want)
			}
		}
	})
}

func TestFiltersThatHalt(t *testing.T) {
	for name, outcome := range map[string]webfilter.Outcome{
		"status":    {Halt: &webfilter.Halt{Row: 3, Message: "Request to … returned 403", Status: 403}},
		"exception": {Exceptions: objectOf("PreventEnrollment", "no"), Data: objectOf(class, "changed")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 10)
				w.set(func() { w.outcome = outcome })
				w.submit(1, "x")
				w.is("halted", 0, 1, 0, 0)
				if len(w.attempts) != 1 || w.attempts[0].Class != delivery.ClassHalted || w.attempts[0].Kind != delivery.KindEvent ||
					len(w.attempts[0].Response) == 0 {
					t.Errorf("the attempt log has %+v", w.attempts)
				}
				// The same from a row.
				w.set(func() { w.takes = time.Second })
				w.submit(2, "x")
				<-time.After(handOff + 10*time.Millisecond)
				w.is("handed off", 0, 2, 1, 0)
				<-time.After(time.Second)
				w.is("halted from a row", 0, 2, 1, 0)
				if len(w.settled) != 1 || w.settled[0].State != delivery.Halted || w.settled[0].Reason != delivery.ReasonHalted {
					t.Errorf("the row was settled %+v", w.settled)
				}
			})
		})
	}
}

func TestFiltersThatAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.set(func() { w.takes = 1500 * time.Millisecond })
		w.submit(1, "x")
		<-time.After(handOff + 10*time.Millisecond)
		w.is("handed off", 0, 1, 1, 0)
		for _, row := range w.stored() {
			if row.State != delivery.Leased || row.Kind != delivery.KindEvent || row.Format != delivery.FormatEvent || row.Delay <= deadline {
				t.Errorf("the row is %+v", row)
			}
		}
		w.set(func() { w.away = true })
		<-time.After(2 * time.Second)
		w.is("with the database away", 0, 1, 1, 0)
		w.set(func() { w.away = false })
		<-time.After(10 * time.Second)
		w.is("finished", 0, 1, 0, 1)
		if w.calls != 1 || w.woken != 1 {
			t.Errorf("filters were called %d times, and %d were woken", w.calls, w.woken)
		}
		for _, rows := range w.finished {
			if len(rows) != 1 || rows[0].State != delivery.Pending || rows[0].Reason != delivery.ReasonFiltering {
				t.Errorf("the deliveries are %+v", rows)
			}
		}
	})
}

// TestOutcomeBeforeTheRow has the filters speak while the row is on its way: it is not written, unless it is already.
func TestOutcomeBeforeTheRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.set(func() { w.takes, w.storing = 600*time.Millisecond, 300*time.Millisecond })
		w.submit(1, "x")
		<-time.After(time.Second)
		w.is("not written", 1, 0, 0, 0)
	})
}

func TestMoreEventsThanSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() { w.takes = 400 * time.Millisecond })
		for n := range 3 {
			w.submit(n, "x")
		}
		<-time.After(handOff + 10*time.Millisecond)
		// One was through, the second is with its filters under a lease, the third waits for whoever claims it.
		w.is("handed off", 1, 2, 2, 0)
		pending := 0
		for _, row := range w.stored() {
			if row.State == delivery.Pending {
				pending++
			}
		}
		if pending != 1 {
			t.Errorf("%d rows are pending, want 1", pending)
		}
		<-time.After(time.Second)
		w.is("finished", 1, 2, 1, 1)
		if w.calls != 2 {
			t.Errorf("filters were called %d times", w.calls)
		}
		if room, lease := w.stage.Room(); room != 1 || lease < deadline {
			t.Errorf("room for %d rows under a lease of %s", room, lease)
		}
		// A claimed row.
		for _, row := range w.stored() {
			row.Token = delivery.Token{9}
			w.set(func() { w.rows[row.ID] = row })
			w.stage.Resume([]delivery.Row{{Delivery: row.Delivery, Token: row.Token, Claims: 1}}, time.Now().Add(time.Minute))
		}
		<-time.After(time.Second)
		w.is("resumed", 1, 2, 0, 2)
	})
}

func TestRowThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.stage.Resume([]delivery.Row{{Delivery: delivery.Delivery{ID: delivery.ID{5}, Body: []byte("{")}, Token: delivery.Token{9}, Claims: 1}},
			time.Now().Add(time.Minute))
		synctest.Wait()
		if len(w.settled) != 1 || w.settled[0].State != delivery.Dead {
			t.Errorf("it was settled %+v", w.settled)
		}
	})
}

func TestParkLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() { w.takes, w.full = 1900*time.Millisecond, true })
		w.submit(1, "x")
		<-time.After(time.Second + 10*time.Millisecond)
		w.is("at the limit", 0, 0, 0, 0)
		w.set(func() { w.full = false })
		<-time.After(handOff)
		w.is("below it", 0, 1, 1, 0)
	})
}

func TestBodyThatFitsNoRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() { w.takes = 1500 * time.Millisecond })
		w.submit(1, strings.Repeat("x", 2000))
		<-time.After(2 * time.Second)
		w.is("delivered", 1, 0, 0, 0)
	})
}

func TestDrain(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			w.set(func() { w.takes = time.Second })
			for n := range 4 {
				w.submit(n, "x")
			}
			synctest.Wait()
			if err := w.stage.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			w.is("drained", 0, 4, 4, 0)
			<-time.After(2 * time.Second)
			w.is("those that were with their filters", 0, 4, 2, 2)
			w.submit(5, "x") // it goes on afterwards
			<-time.After(2 * time.Second)
			w.is("afterwards", 0, 5, 2, 3)
		})
	})
	t.Run("without a database", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2)
			w.set(func() { w.takes, w.away = time.Second, true })
			for n := range 4 {
				w.submit(n, "x")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if err := w.stage.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "4 events") {
				t.Errorf("Drain returned %v", err)
			}
			w.set(func() { w.away = false })
			<-time.After(5 * time.Second)
			w.is("dropped", 0, 0, 0, 0)
		})
	})
}
