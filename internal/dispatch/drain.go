package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
)

// Drain makes rows of all first tries, leased ones of those under way, and returns when every event
// that was dispatched has been released. When ctx ends first, the rest is dropped: its events are
// not released, its waiting deliveries are not sent, and later results are ignored. Deliveries that
// the queue limit keeps in memory are given up at once: their events are not released either, and
// the error says how many. No Dispatch may run at the same time. The dispatcher goes on afterwards.
func (d *Dispatcher) Drain(ctx context.Context) error {
	e := d.epoch.Load()
	e.Drain()
	lanes := d.allLanes()
	for _, l := range lanes {
		full := d.full(l)
		for _, f := range l.unsent() {
			// Even if overflow is to be dead-lettered: the next owner may have room, or an endpoint
			// that works.
			if full && len(f.delivery.Body) <= d.Queue.MaxBody() {
				f.origin.giveUp()
				continue
			}
			f.shelve(0, delivery.ReasonDrain)
		}
		l.unblock(time.Now())
	}
	// Requests under way are handed off in spite of the queue limit: they are few, and the
	// alternative is to send them again.
	for _, l := range lanes {
		for _, f := range l.underWay() {
			f.handOff(delivery.ReasonDrain)
		}
	}
	err := e.Wait(ctx)
	if err != nil {
		err = fmt.Errorf("drain: %d events are not settled and will be read again: %w", e.Left(), err)
	}
	e.Drop()
	d.epoch.Store(inflight.NewEpoch())
	if err != nil {
		for _, l := range lanes {
			l.takeFirst(func(f *flight) bool { return f.origin.epoch == e })
		}
	}
	if n := e.GivenUp(); n > 0 {
		err = errors.Join(err, fmt.Errorf("drain: %d events wait at a queue limit and will be read again", n))
	}
	d.forgetSources()
	return err
}

// unsent takes the first tries out of the lane that wait and are to be made rows. Those whose
// bodies fit no row stay while the lane may send: they can only be in memory.
func (l *lane) unsent() []*flight {
	maxBody := l.d.Queue.MaxBody()
	l.mu.Lock()
	reason, _ := l.barrier(time.Now())
	l.mu.Unlock()
	return l.takeFirst(func(f *flight) bool {
		return reason != delivery.ReasonNone || len(f.delivery.Body) <= maxBody
	})
}

// underWay returns the first tries that are being sent.
func (l *lane) underWay() []*flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*flight(nil), l.trying...)
}
