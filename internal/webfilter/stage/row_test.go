package stage

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// claimed returns the row of an event as a claim has it, and stores it.
func (w *world) claimed(n int) delivery.Row {
	m := message(n, "x")
	row := delivery.Row{
		Delivery: eventOf(m, eventLane.RuleID), Token: delivery.Token{byte(n), 1}, Claims: 1,
		CreatedAt: m.Recorded.Add(2 * time.Hour),
	}
	row.Body = m.Body(delivery.FormatJSON)
	w.set(func() { w.rows[row.ID] = delivery.Insert{Delivery: row.Delivery, Token: row.Token} })
	return row
}

func (w *world) resume(rows ...delivery.Row) { w.stage.Resend(rows, time.Now().Add(time.Minute)) }

// settledAs checks how rows were settled since it was last asked.
func (w *world) settledAs(what string, want ...delivery.Update) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.settled) != len(want) {
		w.t.Errorf("%s: settled %+v, want %d", what, w.settled, len(want))
	}
	for i := range min(len(want), len(w.settled)) {
		got := w.settled[i]
		if got.State != want[i].State || got.Reason != want[i].Reason || got.Delay != want[i].Delay || got.Claims != want[i].Claims {
			w.t.Errorf("%s: settled %+v, want %+v", what, got, want[i])
		}
	}
	w.settled = nil
}

// A rule asks for the time of the record as well. The time at which its row was made is later, and may be past the rule's own.
func TestRowKeepsTheTimeOfTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		row := w.claimed(1)
		w.resume(row)
		synctest.Wait()
		unknown := w.claimed(2)
		unknown.EventTime = time.Time{} // an LMS whose broker gives records no time
		w.resume(unknown)
		w.is("resumed", 0, 0, 0, 2)
		want := message(1, "x").Recorded
		if !row.EventTime.Equal(want) || !w.planned[0].Equal(want) || !w.planned[1].Equal(unknown.CreatedAt) {
			t.Errorf("stored as %s, planned as of %v; the record is of %s", row.EventTime, w.planned, want)
		}
	})
}

// What is written is what counts: a halt of a row that somebody else has by now is neither logged nor counted, nor is one that passed.
func TestResultsOfLostRows(t *testing.T) {
	for name, outcome := range map[string]webfilter.Outcome{
		"halted": {Halt: &webfilter.Halt{Row: 5, Status: 403}}, "passed": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 10)
				w.set(func() { w.outcome = outcome })
				lost, ours := w.claimed(1), w.claimed(2)
				w.set(func() { w.rows[lost.ID] = delivery.Insert{Token: delivery.Token{99}} })
				counted := func() float64 {
					return testutil.ToFloat64(w.stage.metrics.halted) + testutil.ToFloat64(w.stage.metrics.passed)
				}
				w.resume(lost)
				synctest.Wait()
				if n := counted(); n != 0 || len(w.attempts) != 0 || len(w.settled) != 0 {
					t.Errorf("%v counted, %d logged, %d settled", n, len(w.attempts), len(w.settled))
				}
				w.set(func() { w.away = true })
				w.resume(ours)
				<-time.After(time.Second)
				if n := counted(); n != 0 {
					t.Errorf("%v counted with the database away", n)
				}
				w.set(func() { w.away = false })
				<-time.After(10 * time.Second)
				if n := counted(); n != 1 {
					t.Errorf("%v counted", n)
				}
			})
		})
	}
}

// The limit of a webhook rule holds for deliveries of events that are rows, too: they wait as events, and their filters are not called
// again and again meanwhile.
func TestRuleAtItsQueueLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.set(func() { w.limited = true })
		first := w.claimed(1)
		w.resume(first)
		back := delivery.Update{State: delivery.Pending, Delay: againAfter}
		w.settledAs("at the limit", back)
		w.is("at the limit", 0, 0, 1, 0)
		if n := testutil.ToFloat64(w.stage.metrics.returned); n != 1 || testutil.ToFloat64(w.stage.metrics.passed) != 0 {
			t.Errorf("%v counted as returned", n)
		}
		if room := w.room(eventLane); room != 0 {
			t.Errorf("room for %d rows", room)
		}
		<-time.After(4 * time.Second)
		w.resume(w.claimed(2)) // claimed a moment before
		w.settledAs("resting", delivery.Update{State: delivery.Pending, Delay: 6 * time.Second})
		if w.calls != 1 {
			t.Errorf("the filters were called %d times", w.calls)
		}
		<-time.After(6 * time.Second)
		if room := w.room(eventLane); room != 1 {
			t.Errorf("room for %d rows, want one to try with", room)
		}
		w.set(func() { w.takes = time.Second })
		w.resume(first)
		synctest.Wait()
		if room := w.room(eventLane); room != 0 {
			t.Errorf("room for %d rows beside one that tries", room)
		}
		w.set(func() { w.limited = false })
		<-time.After(2 * time.Second)
		w.is("below the limit", 0, 0, 1, 1)
		if room := w.room(eventLane); room != 10 {
			t.Errorf("room for %d rows", room)
		}
	})
}

func TestRuleAtItsQueueLimitBuries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.stage.DeadLetterOverflow = true
		w.set(func() { w.limited = true })
		w.resume(w.claimed(1))
		w.is("at the limit", 0, 0, 0, 1)
		for _, rows := range w.finished {
			if rows[0].State != delivery.Dead || rows[0].Reason != delivery.ReasonQueueLimit || rows[0].Body != nil {
				t.Errorf("the delivery is %+v", rows[0])
			}
		}
	})
}

// Rows whose filter is gone are run by the filters of the moment, and there are never more of them in memory than places.
func TestRowsOfFiltersThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.set(func() { w.takes = time.Second })
		for _, lane := range []delivery.Lane{{Kind: delivery.KindEvent}, {Kind: delivery.KindEvent, RuleID: 99}} {
			if room := w.room(lane); room != 4 {
				t.Errorf("room for %d rows", room)
			}
			var rows []delivery.Row
			for n := range 3 {
				row := w.claimed(int(lane.RuleID)*10 + n)
				row.RuleID = lane.RuleID
				rows = append(rows, row)
			}
			w.resume(rows...)
			if room := w.room(lane); room != 1 {
				t.Errorf("room for %d more rows", room)
			}
		}
		if room := w.room(eventLane); room != 0 {
			t.Errorf("room for %d rows of a filter whose places they have", room)
		}
		<-time.After(3 * time.Second)
		w.is("run", 0, 0, 0, 6)
		for _, lane := range []delivery.Lane{{Kind: delivery.KindEvent}, {Kind: delivery.KindEvent, RuleID: 99}, eventLane} {
			if room := w.room(lane); room != 4 {
				t.Errorf("room for %d rows of lane %d in the end", room, lane.RuleID)
			}
		}
	})
}

// A row in line gives its lease back while that still holds, or when the stage closes.
func TestRowsThatWaitTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.set(func() { w.takes = 100 * time.Second })
		w.resume(w.claimed(1), w.claimed(2))
		<-time.After(time.Minute - deadline - inflight.LeaseMargin - time.Millisecond)
		w.settledAs("in time")
		<-time.After(time.Second)
		w.settledAs("too late", delivery.Update{State: delivery.Pending})
		w.resume(w.claimed(3))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.stage.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		w.settledAs("closed", delivery.Update{State: delivery.Pending}, delivery.Update{State: delivery.Pending})
		if w.calls != 1 {
			t.Errorf("the filters were called %d times", w.calls)
		}
		w.resume(w.claimed(4))
		w.settledAs("after the end", delivery.Update{State: delivery.Pending})
	})
}

// Where events in memory are in line, rows have a quarter of the places, and go first.
func TestRowsBesideEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		w.set(func() { w.takes = 400 * time.Millisecond })
		for n := range 20 {
			w.submit(n, "x")
		}
		if room := w.room(eventLane); room != 2 {
			t.Errorf("room for %d rows", room)
		}
		w.resume(w.claimed(20), w.claimed(21))
		if room := w.room(eventLane); room != 0 {
			t.Errorf("room for %d more rows", room)
		}
		<-time.After(450 * time.Millisecond)
		w.is("the first", 8, 0, 2, 0)
		w.mu.Lock()
		if w.calls != 16 {
			t.Errorf("%d calls; 6 are in line", w.calls)
		}
		w.mu.Unlock()
		<-time.After(400 * time.Millisecond) // so both rows and six events were called before
		w.mu.Lock()
		defer w.mu.Unlock()
		_, first := w.finished[eventOf(message(20, ""), 0).ID]
		_, second := w.finished[eventOf(message(21, ""), 0).ID]
		if len(w.finished) < 2 || !first || !second || w.woken == 0 {
			t.Errorf("%d rows finished, woken %d times: there is room again", len(w.finished), w.woken)
		}
	})
}

// Who found no room is told once when there is some.
func TestRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		w.set(func() { w.takes = 100 * time.Millisecond })
		for asked, want := range []int{0, 1} {
			for n := range 4 {
				w.submit(n, "x")
			}
			if asked > 0 {
				if room := w.room(eventLane); room != 0 {
					t.Errorf("room for %d rows", room)
				}
			}
			<-time.After(200 * time.Millisecond)
			synctest.Wait()
			if w.woken != want {
				t.Errorf("woken %d times, want %d", w.woken, want)
			}
		}
	})
}

// An event type has its own places: a filter that hangs takes none of another's.
func TestTypesDoNotShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for n := range 10 {
			m := message(n, "x")
			m.Event.Type = hanging
			w.submitMessage(m)
		}
		w.submit(100, "x")
		w.is("beside a filter that hangs", 1, 0, 0, 0)
		<-time.After(time.Second)
		w.is("handed off", 1, 10, 10, 0)
		for _, row := range w.stored() {
			if row.RuleID != 6 {
				t.Errorf("a row in the lane of %d", row.RuleID)
			}
		}
		if room := w.room(delivery.Lane{Kind: delivery.KindEvent, RuleID: 6}); room != 0 {
			t.Errorf("room for %d rows of a filter that hangs", room)
		}
		if room := w.room(eventLane); room != 2 {
			t.Errorf("room for %d rows of the other", room)
		}
		w.stop()
	})
}

// Events that were handed off while they were in line leave nothing behind: neither a goroutine nor their message.
func TestHandedOffEventsLeaveTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.set(func() { w.takes = time.Hour })
		for n := range 50 {
			w.submit(n, "x")
		}
		<-time.After(time.Second)
		w.is("handed off", 0, 50, 50, 0)
		// With events in line there would be room for a row: a quarter of the places.
		stacks := make([]byte, 1<<20)
		goroutines := strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "inflight.(*Pool).pump.func1(")
		if room := w.room(eventLane); room != 0 || goroutines != 2 || w.calls != 2 {
			t.Errorf("room for %d rows, %d with their filters, %d goroutines", room, w.calls, goroutines)
		}
		w.stage.mu.Lock()
		if len(w.stage.passes) != 0 {
			t.Errorf("%d passes", len(w.stage.passes))
		}
		w.stage.mu.Unlock()
		w.stop()
	})
}

// A row that a stage leaves while its filters are being called is due again at once.
func TestCloseGivesLeasesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.set(func() { w.takes = time.Hour })
		row := w.claimed(1)
		row.Reason = delivery.ReasonHandOff
		w.resume(row)
		w.submit(2, "x")
		<-time.After(time.Second)
		w.is("handed off", 0, 1, 2, 0)
		w.stop()
		back := delivery.Update{State: delivery.Pending, Reason: delivery.ReasonHandOff}
		w.settledAs("closed", back, back)
	})
}
