package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

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
		"status":    {Halt: &webfilter.Halt{Row: 3, Message: "Request to https://…", Cause: "webfilter 3 answered 403", Status: 403}},
		"exception": {Exceptions: objectOf("PreventEnrollment", "no"), Data: objectOf(class, "changed")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 10)
				w.set(func() { w.outcome = outcome })
				w.submit(1, "x")
				w.is("halted", 0, 1, 0, 0)
				if len(w.attempts) != 1 || w.attempts[0].Class != delivery.ClassHalted || w.attempts[0].Kind != delivery.KindEvent {
					t.Errorf("the attempt log has %+v", w.attempts)
				}
				// The same from a row.
				w.set(func() { w.takes = time.Second })
				w.submit(2, "x")
				<-time.After(handOff + 10*time.Millisecond)
				w.is("handed off", 0, 2, 1, 0)
				<-time.After(time.Second)
				w.is("halted from a row", 0, 2, 1, 0)
				text := map[string]string{"status": "webfilter 3 answered 403", "exception": `{"PreventEnrollment": "no"}`}[name]
				for i, a := range w.attempts {
					if want := fmt.Sprintf("event %d: %s", i+1, text); string(a.Response) != want || len(w.attempts) != 2 {
						t.Errorf("the attempt log says %q, want %q", a.Response, want)
					}
				}
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
			if row.State != delivery.Leased || row.Lane() != eventLane || row.Format != delivery.FormatEvent || row.Delay <= deadline {
				t.Errorf("the row is %+v", row)
			}
		}
		w.set(func() { w.away = true })
		<-time.After(2 * time.Second)
		w.is("with the database away", 0, 1, 1, 0)
		w.set(func() { w.away = false })
		<-time.After(10 * time.Second)
		w.is("finished", 0, 1, 0, 1)
		if w.calls != 1 || w.woken == 0 {
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
		if room, lease, _ := w.stage.Room(eventLane); room != 1 || lease < deadline {
			t.Errorf("room for %d rows under a lease of %s", room, lease)
		}
		// A claimed row.
		for _, row := range w.stored() {
			row.Token = delivery.Token{9}
			w.set(func() { w.rows[row.ID] = row })
			w.stage.Resend([]delivery.Row{{Delivery: row.Delivery, Token: row.Token, Claims: 1}}, time.Now().Add(time.Minute))
		}
		<-time.After(time.Second)
		w.is("resumed", 1, 2, 0, 2)
	})
}

func TestRowThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.stage.Resend([]delivery.Row{{Delivery: delivery.Delivery{ID: delivery.ID{5}, Body: []byte("{")}, Token: delivery.Token{9}, Claims: 1}},
			time.Now().Add(time.Minute))
		synctest.Wait()
		if len(w.settled) != 1 || w.settled[0].State != delivery.Dead {
			t.Errorf("it was settled %+v", w.settled)
		}
	})
}

func TestQueueLimit(t *testing.T) {
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
