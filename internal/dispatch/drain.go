package dispatch

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// epoch is the time between two drains. Every event belongs to one, so that all events of a generation can be given up
// at once.
type epoch struct {
	left     atomic.Int64 // events that are not released
	draining atomic.Bool
	dropped  atomic.Bool
	empty    chan struct{} // holds one token when left reached 0 during a drain
}

func newEpoch() *epoch { return &epoch{empty: make(chan struct{}, 1)} }

func (e *epoch) landed() {
	if e.left.Add(-1) == 0 && e.draining.Load() {
		select {
		case e.empty <- struct{}{}:
		default:
		}
	}
}

// Drain makes rows of all first tries, leased ones of those under way, and returns when every event that was dispatched has
// been released. When ctx ends first, the rest is dropped: its events are not released, what waits is not sent, and results that
// still come are ignored. No Dispatch may run at the same time. The dispatcher goes on afterwards.
func (d *Dispatcher) Drain(ctx context.Context) error {
	e := d.epoch.Load()
	e.draining.Store(true)
	lanes := d.allLanes()
	for _, l := range lanes {
		for _, f := range l.takeFresh(nil) {
			f.park(delivery.Queue(f.delivery, 0, delivery.ReasonDrain))
		}
	}
	for _, l := range lanes {
		for _, f := range l.underWay() {
			f.handOff(delivery.ReasonDrain)
		}
	}
	var err error
	for e.left.Load() > 0 && err == nil {
		select {
		case <-e.empty:
		case <-ctx.Done():
			err = fmt.Errorf("drain: %d events are not settled and will be read again: %w", e.left.Load(), ctx.Err())
		}
	}
	e.dropped.Store(true)
	d.epoch.Store(newEpoch())
	d.forgetSources()
	return err
}

// underWay returns the first tries that are being sent.
func (l *lane) underWay() []*flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*flight(nil), l.trying...)
}
