package dispatch

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// ends is a world in which every request is taken at once. Its only rule may be gone.
type ends struct{ gone atomic.Bool }

func (e *ends) Send(context.Context, *rule.Rule, *delivery.Delivery, int) delivery.Attempt {
	return delivery.Attempt{Status: 200}
}

func (e *ends) Active(l delivery.Lane) *rule.Rule {
	if e.gone.Load() {
		return nil
	}
	return &rule.Rule{Row: rule.Row{ID: l.RuleID}, Kind: l.Kind}
}
func (e *ends) Paused(delivery.Lane) bool                               { return false }
func (e *ends) Enqueue(_ delivery.Insert, _ func() bool, stored func()) { stored() }
func (e *ends) Settle(delivery.Update)                                  {}
func (e *ends) Log(delivery.Attempt)                                    {}
func (e *ends) MaxBody() int                                            { return 1 << 20 }

// newDispatcher returns a dispatcher that is closed with the test.
func newDispatcher(t *testing.T, e *ends) *Dispatcher {
	t.Helper()
	p, err := delivery.NewPolicy([]time.Duration{time.Second}, func() float64 { return 0.5 })
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{
		Sender: e, Rules: e, Queue: e, Policy: p, HandOff: 500 * time.Millisecond, Timeout: 10 * time.Second,
		EndpointConcurrency: 4, Concurrency: 16,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Start()
	t.Cleanup(func() { _ = d.Stop(t.Context()) })
	return d
}

// Whoever still holds a lane that has been taken out finds the one that has its key now.
func TestPushIntoALaneThatIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &ends{}
		d := newDispatcher(t, e)
		key := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 1}
		old := d.lane(key)
		e.gone.Store(true)
		<-time.After(11 * time.Minute)
		if d.lane(key) == old {
			t.Fatal("the lane of a rule that is gone is still there")
		}
		e.gone.Store(false)
		released := 0
		o := &origin{src: &source{}, epoch: d.epoch.Load(), release: func() { released++ }}
		o.left.Store(2)
		o.epoch.Add()
		old.push(&flight{delivery: &delivery.Delivery{Kind: key.Kind, RuleID: 1}, origin: o, lane: old}, time.Now())
		f := &flight{delivery: &delivery.Delivery{Kind: key.Kind, RuleID: 1}, origin: o, lane: old}
		old.block(f, &delivery.Insert{})
		<-time.After(5 * time.Second)
		if now := d.lane(key); released != 1 || now.health.LastTaken.IsZero() || !old.health.LastTaken.IsZero() {
			t.Errorf("released %d times; the lane that is there now took %v, the old one %v", released, now.health, old.health)
		}
	})
}

// A lane in which nothing is on its way costs the sweeper's short rounds nothing.
func TestSweeperListsBusyLanes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDispatcher(t, &ends{})
		listed := func() int {
			d.listMu.Lock()
			defer d.listMu.Unlock()
			return len(d.list)
		}
		for n := range 3 {
			for range 5 {
				ds := []delivery.Delivery{{Kind: delivery.KindWebhook, RuleID: 1}, {Kind: delivery.KindWebhook, RuleID: 2}}
				d.Dispatch(Source{}, ds, func() {})
			}
			if got := listed(); got != 2 {
				t.Errorf("round %d: %d lanes listed, want each once", n, got)
			}
			<-time.After(time.Second)
			if got := listed(); got != 0 {
				t.Errorf("round %d: %d lanes listed with nothing on its way", n, got)
			}
		}
	})
}
