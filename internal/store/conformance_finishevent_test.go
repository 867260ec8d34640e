package store_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// event makes the row of an event that waits for its filters, leased with the token.
func (b *bench) event(t *testing.T, n int, token delivery.Token) delivery.ID {
	t.Helper()
	row := pending(n, 0)
	row.Kind, row.Format, row.State, row.Token, row.Delay = delivery.KindEvent, delivery.FormatEvent, delivery.Leased, token, time.Minute
	b.insert(t, row)
	return row.ID
}

func (b *bench) finishesEvent(t *testing.T, id delivery.ID, token delivery.Token, w bool, rows ...delivery.Insert) {
	t.Helper()
	done, err := b.store.FinishEvent(t.Context(), id, token, rows)
	must(t, err)
	want(t, "done", done, w)
}

// finishEvent: an event's row goes as its deliveries' rows come, for whom has its lease.
func finishEvent(t *testing.T, b *bench) {
	token := tokenOf(1)
	event := b.event(t, 1, token)
	b.insert(t, dead(3, 1)) // one of its deliveries has a row, from an earlier time
	b.finishesEvent(t, event, tokenOf(2), false, pending(2, 1))
	b.finishesEvent(t, event, delivery.Token{}, false, pending(2, 1))
	b.finishesEvent(t, idOf(99), token, false, pending(2, 1))
	want(t, "rows, without its lease", b.count(t, "TRUE"), 2)
	later := pending(5, 1)
	later.Delay = time.Hour
	b.finishesEvent(t, event, token, true, pending(2, 1), pending(3, 1), dead(4, 1), later, pending(2, 2))
	want(t, "the event's row", b.count(t, "kind = 2"), 0)
	want(t, "rows", b.count(t, "kind = 1"), 4)
	want(t, "due now", b.count(t, "state = 0 AND due_at <= UTC_TIMESTAMP(3)"), 1)
	want(t, "due later", b.count(t, "state = 0 AND due_at > DATE_ADD(UTC_TIMESTAMP(3), INTERVAL 50 MINUTE)"), 1)
	want(t, "of one that stands twice, the first", b.get(t, idOf(2)).RuleID, 1)
	for n, state := range map[int]delivery.State{3: delivery.Dead, 4: delivery.Dead} {
		want(t, "state", b.get(t, idOf(n)).State, state)
	}
	b.finishesEvent(t, event, token, false, pending(6, 1)) // a second result for the same lease
	want(t, "rows, the event gone", b.count(t, "TRUE"), 4)
	b.finishesEvent(t, b.event(t, 7, token), token, true) // its filters have left no webhook
	want(t, "rows, of an event for nobody", b.count(t, "TRUE"), 4)

	// A row that has ended or waits is no longer anybody's, whatever token it had.
	for n, state := range []delivery.State{delivery.Halted, delivery.Dead, delivery.Pending} {
		event := b.event(t, 20+n, token)
		_, err := b.store.Finish(t.Context(), []delivery.Update{{ID: event, Token: token, State: state}})
		must(t, err)
		b.finishesEvent(t, event, token, false, pending(30, 1))
		want(t, "state", b.get(t, event).State, state)
	}
	want(t, "rows of events that were not finished", b.count(t, "event_id = 'event-30'"), 0)

	// It waits in the lane of a filter, whose id a webhook rule may have as well; what is given back is claimed from there again.
	row := pending(50, 5)
	row.Kind, row.Format = delivery.KindEvent, delivery.FormatEvent
	b.insert(t, row, pending(51, 5))
	for n := range 2 {
		claimed, err := b.store.Claim(t.Context(), delivery.Lane{Kind: delivery.KindEvent, RuleID: 5}, 10, time.Hour, tokenOf(60+n))
		must(t, err)
		if len(claimed) != 1 || claimed[0].ID != row.ID || !claimed[0].EventTime.Equal(eventTime) || claimed[0].CreatedAt.IsZero() {
			t.Fatalf("claimed %+v", claimed)
		}
		if n == 0 {
			_, err = b.store.Finish(t.Context(), []delivery.Update{delivery.Return(&claimed[0], 0)})
			must(t, err)
		}
	}
	b.finishesEvent(t, row.ID, tokenOf(60), false, pending(52, 5)) // of the lease before
	b.finishesEvent(t, row.ID, tokenOf(61), true, pending(52, 5))
	want(t, "rows of the rule", b.count(t, "kind = 1 AND rule_id = 5"), 2)

	// More than one statement takes, in rows and in bytes.
	var many []delivery.Insert
	for n := 100; n < 1200; n++ {
		many = append(many, pending(n, 1))
	}
	for n := 1200; n < 1203; n++ {
		row := pending(n, 1)
		row.Body = bytes.Repeat([]byte{'\''}, b.store.MaxBody()/2)
		many = append(many, row)
	}
	before := b.count(t, "TRUE")
	b.finishesEvent(t, b.event(t, 8, token), token, true, many...)
	want(t, "rows of many", b.count(t, "TRUE"), before+len(many))
}

// finishEventRefused: where one row does not fit, nothing is done.
func finishEventRefused(t *testing.T, b *bench) {
	token := tokenOf(1)
	event := b.event(t, 1, token)
	large := pending(3, 1)
	large.Body = make([]byte, b.store.MaxBody()+1)
	var rejected *delivery.RejectedError
	done, err := b.store.FinishEvent(t.Context(), event, token, []delivery.Insert{pending(2, 1), large})
	if done || !errors.As(err, &rejected) || len(rejected.Rows) != 1 || rejected.Rows[0].Index != 1 {
		t.Errorf("a body too large: %v, %v", done, err)
	}
	for _, state := range []delivery.State{delivery.Leased, delivery.Delivered, delivery.Halted} {
		row := pending(2, 1)
		row.State, row.Token = state, token
		if done, err := b.store.FinishEvent(t.Context(), event, token, []delivery.Insert{pending(4, 1), row}); done || err == nil {
			t.Errorf("a delivery that begins %s: %v, %v", state, done, err)
		}
	}
	want(t, "state of the event's row", b.get(t, event).State, delivery.Leased)
	want(t, "rows", b.count(t, "TRUE"), 1)
}

// finishEventUndone: when the server refuses a row, or keeps the event's, nothing was done.
func finishEventUndone(t *testing.T, b *bench) {
	token := tokenOf(1)
	event := b.event(t, 1, token)
	refused := pending(3, 1)
	refused.Reason = "café" // no check of ours stands before this column
	if done, err := b.store.FinishEvent(t.Context(), event, token, []delivery.Insert{pending(2, 1), refused}); done || err == nil {
		t.Errorf("a row that the server refuses: %v, %v", done, err)
	}
	mustExec(t, b.admin, "CREATE TRIGGER stay BEFORE DELETE ON webhook_dispatcher_delivery FOR EACH ROW SIGNAL SQLSTATE '45000'")
	if done, err := b.store.FinishEvent(t.Context(), event, token, []delivery.Insert{pending(2, 1)}); done || err == nil {
		t.Errorf("with an event's row that stays: %v, %v", done, err)
	}
	want(t, "rows", b.count(t, "TRUE"), 1)
	mustExec(t, b.admin, "DROP TRIGGER stay")
	b.finishesEvent(t, event, token, true, pending(2, 1))
}

// finishEventAtOnce: of many that have the lease of an event one makes its deliveries, and none where the row is claimed anew meanwhile.
func finishEventAtOnce(t *testing.T, b *bench) {
	for round := range 5 {
		event := b.event(t, 1000+round, tokenOf(1))
		var mu sync.Mutex
		var wg sync.WaitGroup
		done := 0
		for n := range 4 {
			wg.Go(func() {
				// Each would make a row of its own, so that two successes show.
				ok, err := b.store.FinishEvent(context.WithoutCancel(t.Context()), event, tokenOf(1), []delivery.Insert{pending(round*10+n, 1)})
				if err != nil {
					t.Errorf("FinishEvent: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if ok {
					done++
				}
			})
		}
		halted := 0
		wg.Go(func() {
			lost, err := b.store.Finish(context.WithoutCancel(t.Context()), []delivery.Update{
				{ID: event, Token: tokenOf(1), State: delivery.Halted},
			})
			if err != nil {
				t.Errorf("Finish: %v", err)
			}
			halted = 1 - len(lost)
		})
		wg.Wait()
		want(t, "finished or halted", done+halted, 1)
		want(t, "deliveries", b.count(t, "kind = 1"), done)
		want(t, "the event's row", b.count(t, "kind = 2"), halted)
		mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_delivery")
	}
}
