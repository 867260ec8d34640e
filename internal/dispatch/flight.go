package dispatch

import (
	"sync/atomic"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
)

// flight is a delivery in flight: a first try (origin set), or a claimed row (row set). The row of
// a hand-off is in the cell.
type flight struct {
	delivery *delivery.Delivery
	lane     *lane // set before the flight is shared
	origin   *origin
	row      *delivery.Row
	until    time.Time // when the lease of row ends

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
	// A rule that was paused, disabled or deleted since the match is not called; the row waits.
	if r != nil {
		f.cell.Begin(d.limits(r).Timeout) // the lane may not have read the changed rule yet
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
	if r == nil || time.Until(f.until) < d.limits(r).Timeout+inflight.LeaseMargin {
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
		l.logDead(&row.Delivery, v, a.Status)
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
	case delivery.Delivered, delivery.Halted:
		f.origin.landed()
		return
	case delivery.Dead:
		f.lane.logDead(f.delivery, v, a.Status)
	default:
	}
	f.enqueue(delivery.Enqueue(f.delivery, v, a.Status))
}

// handOff stores a first try as a row while its request goes on, unless its body does not fit. The
// caller has checked the queue limit.
//
// An event that is read twice may already have its row. Then the insert changes nothing, the row
// lacks the token, and the result is discarded; the delivery is sent again from its row (at least
// once).
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

// wanted is called right before the row of a hand-off is written.
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

// landed counts a delivery as taken or stored, and with the last releases the event, unless a drain
// has given it up.
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

// giveUp counts a delivery as neither: its event is not released, and is read again.
func (o *origin) giveUp() {
	o.givenUp.Store(true)
	o.landed()
}

// wanted reports whether a row for the event is still this process's business.
func (o *origin) wanted() bool { return !o.epoch.Dropped() }
