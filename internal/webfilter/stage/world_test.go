package stage

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

	testType = "org.openedx.test.v1"
	hanging  = "org.openedx.hanging.v1" // the type of events whose filter hangs
)

var (
	eventLane = delivery.Lane{Kind: delivery.KindEvent, RuleID: 5}
	hookLane  = delivery.Lane{Kind: delivery.KindWebhook, RuleID: 7}
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
	sealed    bool        // a filter waits for its secrets
	limited   bool        // the rule of the deliveries is at its queue limit
	planned   []time.Time // the records' times of what was planned
	rows      map[delivery.ID]delivery.Insert
	settled   []delivery.Update
	attempts  []delivery.Attempt
	finished  map[delivery.ID][]delivery.Insert
	delivered []string
	released  []string
	woken     int
}

func newWorld(t *testing.T, places int) *world {
	w := &world{t: t, rows: map[delivery.ID]delivery.Insert{}, finished: map[delivery.ID][]delivery.Insert{}}
	stage, err := New(Options{
		Filters: w, Chains: w, Queue: w, Ends: w, Plan: w.plan, HandOff: handOff, Deadline: deadline, Concurrency: places,
		Full:     func(l delivery.Lane) bool { w.mu.Lock(); defer w.mu.Unlock(); return w.full && l == eventLane },
		LaneFull: func(l delivery.Lane) bool { w.mu.Lock(); defer w.mu.Unlock(); return w.limited && l == hookLane },
		Wake:     func() { w.mu.Lock(); w.woken++; w.mu.Unlock() },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.stage = stage
	t.Cleanup(func() {
		if err := stage.Stop(t.Context()); err != nil && !errors.Is(err, context.Canceled) {
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
	if q.Filter == hanging {
		takes = time.Hour
	}
	if q.Filter != hanging && w.sealed {
		takes, outcome = 0, webfilter.Outcome{Wait: true}
	}
	w.mu.Unlock()
	if !strings.HasPrefix(string(q.Body), `{"`+class+`": {"id": `) || !q.Halting || !q.MayWait {
		w.t.Errorf("the filters were asked %+v", q)
	}
	select {
	case <-time.After(takes):
		return &outcome, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Enqueue implements Queue.
func (w *world) Enqueue(in delivery.Insert, wanted func() bool, stored func()) {
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

// Chain implements Chains.
func (w *world) Chain(eventType string) (int32, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if eventType == hanging {
		return 6, false
	}
	return eventLane.RuleID, w.sealed
}

// TypeOf implements Chains.
func (w *world) TypeOf(row int32) string { return map[int32]string{5: testType, 6: hanging}[row] }

// End implements Ends.
func (w *world) End(_ context.Context, u delivery.Update) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return false, errors.New("the database is away")
	}
	if w.rows[u.ID].Token != u.Token {
		return false, nil
	}
	w.settled = append(w.settled, u)
	return true, nil
}

// FinishEvent implements Ends.
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
	w.mu.Lock()
	defer w.mu.Unlock()
	w.planned = append(w.planned, m.Recorded)
	return []delivery.Delivery{{ID: delivery.ID{1}, Kind: delivery.KindWebhook, RuleID: 7, Body: m.Body(delivery.FormatJSON)}}
}

func message(n int, text string) *payload.Message {
	data := payload.ObjectValue([]string{"id", "text"}, []payload.Value{payload.IntValue(int64(n)), payload.StringValue(text)})
	return &payload.Message{
		Event: event.Event{Type: testType, ID: fmt.Sprint(n), Source: "lms", Time: time.Unix(1700000000, 0).UTC()},
		Data:  payload.ObjectValue([]string{class}, []payload.Value{data}), Recorded: time.Unix(1700000100, 0).UTC(),
	}
}

// room is how many rows of a lane may be claimed.
func (w *world) room(lane delivery.Lane) int {
	w.t.Helper()
	room, _, known := w.stage.Room(lane)
	if !known {
		w.t.Error("a lane of events is not known")
	}
	return room
}

// stop stops the stage, whose calls have no time left.
func (w *world) stop() {
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	if err := w.stage.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		w.t.Error(err)
	}
}

func (w *world) submit(n int, text string) { w.submitMessage(message(n, text)) }

func (w *world) submitMessage(m *payload.Message) {
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
