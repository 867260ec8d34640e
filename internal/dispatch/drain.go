package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// epoch is the time between two drains. Every event belongs to one, so that all events of a generation can be given up
// at once.
type epoch struct {
	left     atomic.Int64 // events that are neither released nor given up
	givenUp  atomic.Int64
	draining atomic.Bool
	dropped  atomic.Bool
	empty    chan struct{} // holds one token when left reached 0 during a drain
}

func newEpoch() *epoch { return &epoch{empty: make(chan struct{}, 1)} }

// landed counts an event as released, or as given up.
func (e *epoch) landed(givenUp bool) {
	if givenUp {
		e.givenUp.Add(1)
	}
	if e.left.Add(-1) == 0 && e.draining.Load() {
		select {
		case e.empty <- struct{}{}:
		default:
		}
	}
}

// Drain makes rows of all first tries, leased ones of those under way, and returns when every event that was dispatched has
// been released. When ctx ends first, the rest is dropped: its events are not released, what waits is not sent, and results that
// still come are ignored. What is held by the park limit is given up at once: its events are not released either, and the
// error says how many. No Dispatch may run at the same time. The dispatcher goes on afterwards.
func (d *Dispatcher) Drain(ctx context.Context) error {
	e := d.epoch.Load()
	e.draining.Store(true)
	lanes := d.allLanes()
	for _, l := range lanes {
		full := d.full(l)
		for _, f := range l.unsent() {
			// Also where the overflow is to be buried: whoever reads it again may have room, or an endpoint that works.
			if full && len(f.delivery.Body) <= d.Queue.MaxBody() {
				f.origin.giveUp()
				continue
			}
			f.shelve(0, delivery.ReasonDrain)
		}
		l.unhold(time.Now())
	}
	// Requests under way are handed off whatever the park limit says: they are few, and sending them again would be the alternative.
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
	if err != nil {
		for _, l := range lanes {
			l.takeFresh(func(f *flight) bool { return f.origin.epoch == e })
		}
	}
	if n := e.givenUp.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("drain: %d events wait at a park limit and will be read again", n))
	}
	d.forgetSources()
	return err
}

// unsent takes what waits out of the lane to be made rows. Flights whose bodies fit no row stay, for as long as the lane may send: for
// them memory is the only place.
func (l *lane) unsent() []*flight {
	maxBody := l.d.Queue.MaxBody()
	l.mu.Lock()
	reason, _ := l.barrier(time.Now())
	l.mu.Unlock()
	return l.takeFresh(func(f *flight) bool { return reason != delivery.ReasonNone || len(f.delivery.Body) <= maxBody })
}

// underWay returns the first tries that are being sent.
func (l *lane) underWay() []*flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*flight(nil), l.trying...)
}
