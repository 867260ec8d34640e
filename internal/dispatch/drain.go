package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
)

// Drain stores all first tries as rows, leased if their request is in flight, and returns once
// every dispatched event is released. If ctx ends first the rest is dropped: its events are not
// released, its waiting deliveries not sent, and later results ignored. Deliveries kept in memory
// by the queue limit are given up at once, unreleased; the error has their number. No Dispatch may
// run meanwhile. The dispatcher goes on afterwards.
func (d *Dispatcher) Drain(ctx context.Context) error {
	e := d.epoch.Load()
	e.Drain()
	lanes := d.allLanes()
	for _, l := range lanes {
		full := d.full(l)
		for _, f := range l.unsent() {
			// Even if overflow is dead-lettered: the next owner may have more luck.
			if full && len(f.delivery.Body) <= d.Queue.MaxBody() {
				f.origin.giveUp()
				continue
			}
			f.enqueueUntried(0, delivery.ReasonDrain)
		}
		l.unblock(time.Now())
	}
	// Despite the queue limit: they are few, and would otherwise be sent again.
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

// unsent removes the waiting first tries that become rows. Those whose bodies do not fit a row stay
// while the lane may send.
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
