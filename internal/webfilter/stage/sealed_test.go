package stage

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// A filter that waits for its secrets may be there to take something out: events wait for it as rows, at once, and nothing is called.
func TestFilterThatIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.set(func() { w.sealed = true })
		w.submit(1, "x")
		<-time.After(10 * time.Millisecond)
		w.is("sealed", 0, 1, 1, 0)
		for _, row := range w.stored() {
			if row.State != delivery.Pending || row.Reason != delivery.ReasonPaused || row.Lane() != eventLane || row.Delay != 0 {
				t.Errorf("the row is %+v", row)
			}
		}
		if room := w.room(eventLane); room != 0 || w.calls != 0 {
			t.Errorf("room for %d rows, %d calls", room, w.calls)
		}
		w.set(func() { w.sealed = false })
		if room := w.room(eventLane); room != 10 {
			t.Errorf("room for %d rows", room)
		}
		w.resume(w.claimed(1))
		w.is("with its secrets", 0, 1, 0, 1)
	})
}

// A row in the lane of a filter that is gone is claimed all the same. While another filter of its type is sealed it goes back, and its lane
// rests: all its rows would else be claimed and given back without end.
func TestRowThatAnotherFilterHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.set(func() { w.sealed = true })
		gone := delivery.Lane{Kind: delivery.KindEvent, RuleID: 99}
		if room := w.room(gone); room != 10 {
			t.Fatalf("room for %d rows", room)
		}
		row := w.claimed(1)
		row.RuleID = gone.RuleID
		w.resume(row)
		w.settledAs("resumed", delivery.Update{State: delivery.Pending, Reason: delivery.ReasonPaused, Delay: againAfter})
		if room := w.room(gone); room != 0 {
			t.Errorf("room for %d rows", room)
		}
		<-time.After(againAfter)
		if room := w.room(gone); room != 1 {
			t.Errorf("room for %d rows after its rest, want one to try", room)
		}
		w.set(func() { w.sealed = false })
		again := w.claimed(2)
		again.RuleID = gone.RuleID
		w.resume(again)
		synctest.Wait()
		if room := w.room(gone); room != 10 {
			t.Errorf("room for %d rows with the secrets there", room)
		}
	})
}

// An event too large for a row is in line longer than the hand-off time, and finds its filter held and no room for a row when it gets its
// turn. It goes on once both are over.
func TestLargeEventAtTheQueueLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() { w.takes = 2 * time.Second })
		w.submit(1, "x")
		w.submit(2, strings.Repeat("x", 2000))
		<-time.After(time.Second)
		w.set(func() { w.sealed, w.full = true, true })
		<-time.After(2 * time.Second)
		w.set(func() { w.sealed, w.full, w.takes = false, false, 0 })
		<-time.After(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.delivered) != 1 || !strings.Contains(w.delivered[0], `"id": 2`) {
			t.Errorf("%d events were delivered from memory, want the large one", len(w.delivered))
		}
	})
}

// It waits for its secrets from the moment on at which it is asked, whatever was known before.
func TestFilterThatIsSealedWhenItIsCalled(t *testing.T) {
	for name, phase := range map[string]time.Duration{"in memory": 0, "handed off": handOff + 10*time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.set(func() { w.takes = phase + 100*time.Millisecond })
				w.submit(1, "x") // takes the place
				w.submit(2, "x")
				synctest.Wait()
				w.set(func() { w.sealed = true })
				<-time.After(w.takes + 10*time.Millisecond)
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, body := range w.delivered {
					if strings.Contains(body, `"id": 2`) {
						t.Error("the second event went past its filter")
					}
				}
				for _, row := range w.rows {
					if row.EventID == "2" && row.State != delivery.Pending {
						t.Errorf("its row is %+v", row)
					}
				}
			})
		})
	}
}

// While the row of an event is on its way a filter says that it waits: the row is written, and due again.
func TestFilterThatWaitsDuringTheHandOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() {
			w.takes, w.storing = 600*time.Millisecond, 300*time.Millisecond
			w.outcome.Wait = true
		})
		w.submit(1, "x")
		<-time.After(2 * time.Second)
		w.is("written", 0, 1, 1, 0)
		w.settledAs("written", delivery.Update{State: delivery.Pending, Reason: delivery.ReasonPaused, Delay: againAfter})
	})
}

// At the queue limit events wait in memory for a filter that is sealed, and are given up when their partition goes.
func TestFilterThatIsSealedAtTheQueueLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() { w.sealed, w.full = true, true })
		w.submit(1, "x")
		w.submit(2, "x")
		<-time.After(10 * handOff)
		w.is("at the limit", 0, 0, 0, 0)
		w.set(func() { w.full = false })
		<-time.After(handOff + 10*time.Millisecond)
		w.is("below it", 0, 2, 2, 0)

		w.set(func() { w.full = true })
		w.submit(3, "x")
		<-time.After(2 * handOff)
		w.set(func() { w.sealed = false })
		<-time.After(handOff)
		w.is("with its secrets", 1, 2, 2, 0)

		w.set(func() { w.sealed = true })
		w.submit(4, "x")
		if err := w.stage.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		<-time.After(time.Minute)
		w.is("drained", 1, 2, 2, 0)
	})
}

// What can neither wait as a row nor go past its filter is dead.
func TestLargeEventOfAFilterThatIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() { w.sealed = true })
		w.submit(1, strings.Repeat("x", 2000))
		<-time.After(10 * time.Millisecond)
		w.is("sealed", 0, 1, 1, 0)
		for _, row := range w.stored() {
			if row.State != delivery.Dead || row.Reason != delivery.ReasonTooLarge || row.Body != nil || row.EventID != "1" {
				t.Errorf("the row is %+v", row)
			}
		}
	})
}
