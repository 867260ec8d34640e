package inflight

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is what a pool is tried on: rows take a second, and note when they ran and how they were settled.
type bench struct {
	mu      sync.Mutex
	ran     []int32
	settled []delivery.Update
	woken   int
}

func (b *bench) pool(concurrency int) *Pool {
	return NewPool(PoolOptions{
		Concurrency: concurrency, Longest: 2 * time.Second, Key: func(row *delivery.Row) string { return row.EventType },
		Run: func(ctx context.Context, row *delivery.Row, _ time.Time) {
			b.mu.Lock()
			b.ran = append(b.ran, row.RuleID)
			b.mu.Unlock()
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		},
		Settle: func(u delivery.Update) { b.mu.Lock(); b.settled = append(b.settled, u); b.mu.Unlock() },
		Wake:   func() { b.mu.Lock(); b.woken++; b.mu.Unlock() },
	})
}

func rows(rules ...int32) (all []delivery.Row) {
	for _, rule := range rules {
		all = append(all, delivery.Row{Delivery: delivery.Delivery{RuleID: rule, EventType: "t"}})
	}
	return all
}

// Rows go before first tries, and a pool that has nothing to do remembers nothing.
func TestPoolRunsRowsFirstAndForgetsThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{}
		p := b.pool(1)
		first := func() { b.mu.Lock(); b.ran = append(b.ran, 0); b.mu.Unlock(); <-time.After(time.Second) }
		entries := []*Entry{NewEntry("t", first), NewEntry("t", first), NewEntry("t", first)}
		for _, e := range entries {
			p.Join(e)
			p.Join(e) // changes nothing
		}
		if !p.Remove(entries[2]) || p.Remove(entries[2]) || p.Remove(entries[0]) {
			t.Error("an entry in line was not removed once, or one that runs was")
		}
		p.Resend(rows(1, 2), time.Now().Add(time.Minute))
		<-time.After(10 * time.Second)
		synctest.Wait()
		if want := []int32{0, 1, 2, 0}; !slices.Equal(b.ran, want) || len(b.settled) != 0 {
			t.Errorf("ran %v, want %v; given back %v", b.ran, want, b.settled)
		}
		if len(p.lines)+len(p.held)+len(p.resting) != 0 {
			t.Errorf("lines %v, held %v, resting %v", p.lines, p.held, p.resting)
		}
	})
}

// A row whose lease gets too short in line is given back, as are those in line or to come when the pool stops.
func TestPoolGivesRowsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{}
		p := b.pool(1)
		p.Resend(rows(1, 2), time.Now().Add(7*time.Second+500*time.Millisecond)) // half a second more than a run and the margin
		<-time.After(900 * time.Millisecond)
		synctest.Wait()
		if len(b.ran) != 1 || len(b.settled) != 1 || len(p.held) != 1 {
			t.Errorf("ran %v, given back %v, held %v", b.ran, b.settled, p.held)
		}
		p.Resend(rows(3), time.Now().Add(time.Minute))
		if err := p.Stop(t.Context()); err != nil || len(b.settled) != 2 {
			t.Errorf("stop: %v, given back %v", err, b.settled)
		}
		if p.Go(func() {}) || !p.Stopped() {
			t.Error("it is not stopped")
		}
		p.Resend(rows(4), time.Now().Add(time.Minute))
		if room, _ := p.Room(5, "t"); len(b.settled) != 3 || len(b.ran) != 1 || room != 0 || len(p.held) != 0 {
			t.Errorf("after the stop: given back %v, ran %v, room for %d, held %v", b.settled, b.ran, room, p.held)
		}
	})
}
