package dispatch

import (
	"sync/atomic"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
)

// flight is one delivery in flight: a first try (origin set) or a claimed row (row set). A first
// try gets a row when it is handed off; its cell knows that one.
type flight struct {
	turn     inflight.Turn[*flight] // guarded by lane.mu
	delivery *delivery.Delivery
	lane     *lane // set before anybody else sees the flight
	origin   *origin
	row      *delivery.Row

	started time.Time       // guarded by lane.mu
	place   int             // in lane.trying; guarded by lane.mu
	request breaker.Request // for the lane's breaker; guarded by lane.mu

	cell inflight.Cell[delivery.Attempt] // of a first try
}

// run sends the flight once and acts on the outcome.
func (f *flight) run() {
	if f.origin == nil {
		f.runClaimed()
		return
	}
	if f.origin.epoch.Dropped() {
		return // the partition has another owner, who reads the record again
	}
	d, l := f.lane.d, f.lane
	a := delivery.Attempt{Class: delivery.ClassCancelled}
	r := d.Rules.Active(l.key)
	paused := r == nil && d.Rules.Paused(l.key)
	// A rule that was paused, disabled or deleted since it was matched is not called: the row waits
	// for what becomes of it.
	if r != nil {
		f.cell.Begin(d.limits(r).Timeout) // the lane may not have looked at the rule since it was changed
		var what delivery.RenderFailure
		a, what = d.send(r, f.delivery, 1)
		l.note(f, &a, what)
	}
	switch f.cell.Finish(&a, false) {
	case inflight.Leased:
		row, _ := f.cell.Row()
		d.settle(row, &a, l)
	case inflight.Yours:
		if paused {
			f.enqueue(delivery.Queue(f.delivery, 0, delivery.ReasonPaused))
			return
		}
		f.firstResult(&a)
	case inflight.Later:
	}
}

func (f *flight) runClaimed() {
	d, l := f.lane.d, f.lane
	r := d.Rules.Active(l.key)
	if r == nil || time.Until(f.turn.Until) < d.limits(r).Timeout+inflight.LeaseMargin {
		d.Queue.Settle(delivery.Return(f.row, 0))
		return
	}
	a, what := d.send(r, f.delivery, f.row.Attempts+1)
	l.note(f, &a, what)
	d.settle(f.row, &a, l)
}

// settle writes the result of a row that was sent under a lease.
func (d *Dispatcher) settle(row *delivery.Row, a *delivery.Attempt, l *lane) {
	v := l.decide(row.Attempts, a)
	if a.Class != delivery.ClassCancelled {
		d.Queue.Log(*a)
	}
	d.Queue.Settle(delivery.Settle(row, v, a.Status))
	d.metrics.decided(l.series, v, true)
	if v.State == delivery.Dead {
		l.died(&row.Delivery, v, a.Status)
	}
}

// firstResult acts on the outcome of a first try that has no row.
func (f *flight) firstResult(a *delivery.Attempt) {
	d := f.lane.d
	v := f.lane.decide(0, a)
	if a.Class != delivery.ClassCancelled && (v.State != delivery.Delivered || d.LogAll) {
		d.Queue.Log(*a)
	}
	d.metrics.decided(f.lane.series, v, false)
	switch v.State {
	case delivery.Delivered, delivery.Halted: // nothing is left to do, and nothing to keep
		f.origin.landed()
		return
	case delivery.Dead:
		f.lane.died(f.delivery, v, a.Status)
	default:
	}
	f.enqueue(delivery.Enqueue(f.delivery, v, a.Status))
}

// handOff makes a row of a first try while its request goes on. A body that does not fit a row is
// not handed off: its request ends within the timeout. The caller has looked at the queue limit.
//
// An event that is read a second time may already have its row from the first time. Then this
// insert changes nothing, the row does not know the token, and the result is discarded: a delivery
// that was taken now is sent once more from its row. At least once is what is promised.
func (f *flight) handOff(reason delivery.Reason) {
	d := f.lane.d
	if len(f.delivery.Body) > d.Queue.MaxBody() {
		return
	}
	if in, ok := f.cell.Lease(f.delivery, f.lane.requestTimeout(), reason); ok {
		d.metrics.handOffs.Inc()
		d.Queue.Enqueue(in, f.wanted, f.stored)
	}
}

// wanted is asked right before the row of a hand-off is written.
func (f *flight) wanted() bool {
	wanted, a, _ := f.cell.Wanted(f.origin.epoch.Dropped())
	if a != nil {
		f.firstResult(a)
	}
	return wanted
}

// stored is called when the row of a hand-off is stored.
func (f *flight) stored() {
	a := f.cell.Stored()
	f.origin.landed()
	if a != nil {
		row, _ := f.cell.Row()
		f.lane.d.settle(row, a, f.lane)
	}
}

// origin is an event whose deliveries are in flight.
type origin struct {
	src     *source
	epoch   *inflight.Epoch
	left    atomic.Int32 // deliveries that are neither taken nor rows
	givenUp atomic.Bool  // one of them is neither and will not be
	release func()
}

// landed counts one delivery as taken or stored, and releases the event with the last. After a
// drain that gave up nothing is released any more: the record is read again.
func (o *origin) landed() {
	switch {
	case o.left.Add(-1) > 0:
	case o.givenUp.Load():
		o.epoch.GiveUp()
	default:
		if !o.epoch.Dropped() {
			o.release()
		}
		o.epoch.Release()
	}
}

// giveUp counts one delivery as neither taken nor stored: its event is not released, and is read
// again.
func (o *origin) giveUp() {
	o.givenUp.Store(true)
	o.landed()
}

// wanted reports whether a row for the event is still this process's business.
func (o *origin) wanted() bool { return !o.epoch.Dropped() }
