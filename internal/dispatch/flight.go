package dispatch

import (
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// phase is where a first try stands. It only ever moves down this list.
type phase uint8

const (
	trying  phase = iota // queued or being sent; no row
	handing              // being sent, while its row is on the way into the database
	handed               // being sent under the lease of its row
	ended
)

// flight is one delivery on its way: a first try (origin set) or a claimed row (row set, origin nil). A first try gets a row
// when it is handed off.
type flight struct {
	delivery *delivery.Delivery
	lane     *lane // set before anybody else sees the flight
	origin   *origin
	until    time.Time // when a claimed row's lease runs out

	started time.Time       // guarded by lane.mu
	place   int             // in lane.trying; guarded by lane.mu
	request breaker.Request // for the lane's breaker; guarded by lane.mu

	mu    sync.Mutex
	phase phase
	// timeout is what the request under way may take: the rule may have been changed since the lane last looked at it.
	timeout time.Duration
	row     *delivery.Row
	result  *delivery.Attempt // came while the row was on its way
}

// leaseMargin is what must be left of a lease beyond the request's timeout to begin a request under it: time to write the result.
const leaseMargin = 5 * time.Second

// run sends the flight once and sees to its outcome.
func (f *flight) run() {
	if f.origin == nil {
		f.runClaimed()
		return
	}
	if f.origin.epoch.dropped.Load() {
		return // the partition is somebody else's by now, who reads the record again
	}
	d, l := f.lane.d, f.lane
	a := delivery.Attempt{Class: delivery.ClassCancelled}
	r := d.Rules.Active(l.key)
	paused := r == nil && d.Rules.Paused(l.key)
	// A rule that was paused, disabled or deleted since it was matched is not called: the row waits for what becomes of it.
	if r != nil {
		f.mu.Lock()
		f.timeout = d.limits(r).Timeout
		f.mu.Unlock()
		var what delivery.RenderFailure
		a, what = d.send(r, f.delivery, 1)
		l.note(f, &a, what)
	}
	f.mu.Lock()
	switch f.phase {
	case handing:
		f.result = &a
		f.mu.Unlock()
	case handed:
		f.phase = ended
		f.mu.Unlock()
		d.settle(f.row, &a, l)
	default:
		f.phase = ended
		f.mu.Unlock()
		if paused {
			f.park(delivery.Queue(f.delivery, 0, delivery.ReasonPaused))
			return
		}
		f.firstResult(&a)
	}
}

func (f *flight) runClaimed() {
	d, l := f.lane.d, f.lane
	r := d.Rules.Active(l.key)
	if r == nil || time.Until(f.until) < d.limits(r).Timeout+leaseMargin {
		d.Queue.Settle(delivery.Return(f.row, 0))
		return
	}
	a, what := d.send(r, f.delivery, f.row.Attempts+1)
	l.note(f, &a, what)
	d.settle(f.row, &a, l)
}

// settle writes the result of a row that was sent under a lease.
func (d *Dispatcher) settle(row *delivery.Row, a *delivery.Attempt, l *lane) {
	v := l.judge(row.Attempts, a)
	if a.Class != delivery.ClassCancelled {
		d.Queue.Log(*a)
	}
	d.Queue.Settle(delivery.Settle(row, v, a.Status))
	d.metrics.judged(l.series, v, true)
	if v.State == delivery.Dead {
		l.died(&row.Delivery, v, a.Status)
	}
}

// firstResult sees to the outcome of a first try that has no row.
func (f *flight) firstResult(a *delivery.Attempt) {
	d := f.lane.d
	v := f.lane.judge(0, a)
	if a.Class != delivery.ClassCancelled && (v.State != delivery.Delivered || d.LogAll) {
		d.Queue.Log(*a)
	}
	d.metrics.judged(f.lane.series, v, false)
	switch v.State {
	case delivery.Delivered, delivery.Halted: // nothing is left to do, and nothing to keep
		f.origin.landed()
		return
	case delivery.Dead:
		f.lane.died(f.delivery, v, a.Status)
	default:
	}
	f.park(delivery.Enqueue(f.delivery, v, a.Status))
}

// handOff makes a row of a first try while its request goes on. A body that does not fit a row is not handed off: its
// request ends within the timeout. The park limit is the caller's business.
//
// An event that is read a second time may have its row already, from the first. Then this insert changes nothing, the row does not know the
// token, and the result is discarded: a delivery that was taken now is sent once more from its row. At least once is what is promised.
func (f *flight) handOff(reason delivery.Reason) {
	d := f.lane.d
	if len(f.delivery.Body) > d.Queue.MaxBody() {
		return
	}
	lease := f.lane.lease()
	f.mu.Lock()
	if f.phase != trying {
		f.mu.Unlock()
		return
	}
	lease = max(lease, delivery.Lease(f.timeout))
	f.phase = handing
	f.row = &delivery.Row{Delivery: *f.delivery, State: delivery.Leased, Claims: 1, Reason: reason}
	_, _ = rand.Read(f.row.Token[:]) // never fails, as documented
	token := f.row.Token
	f.mu.Unlock()
	d.metrics.handOffs.Inc()
	d.Queue.Enqueue(delivery.HandOff(f.delivery, token, lease, reason), f.stillHanding, f.handedOff)
}

// stillHanding is asked right before the row of a hand-off is written. A result that has come meanwhile makes the leased row
// pointless: what the result calls for is done instead, once however often this is asked, or its event would be released early.
func (f *flight) stillHanding() bool {
	f.mu.Lock()
	if f.phase == ended {
		f.mu.Unlock()
		return false
	}
	if f.result == nil {
		f.mu.Unlock()
		return f.origin.wanted()
	}
	a := f.result
	f.phase = ended
	f.mu.Unlock()
	if f.origin.wanted() {
		f.firstResult(a)
	}
	return false
}

// handedOff is called when the row of a hand-off is stored.
func (f *flight) handedOff() {
	f.mu.Lock()
	f.phase = handed
	a := f.result
	if a != nil {
		f.phase = ended
	}
	f.mu.Unlock()
	f.origin.landed()
	if a != nil {
		f.lane.d.settle(f.row, a, f.lane)
	}
}

// origin is an event whose deliveries are on their way.
type origin struct {
	src     *source
	epoch   *epoch
	left    atomic.Int32 // deliveries that are neither taken nor rows
	givenUp atomic.Bool  // one of them is neither and will not be
	release func()
}

// landed counts one delivery as taken or stored, and releases the event with the last. After a drain that gave up nothing
// is released any more: the record is read again.
func (o *origin) landed() {
	if o.left.Add(-1) > 0 {
		return
	}
	given := o.givenUp.Load()
	if !given && !o.epoch.dropped.Load() {
		o.release()
	}
	o.epoch.landed(given)
}

// giveUp counts one delivery as neither taken nor stored: its event is not released, and is read again.
func (o *origin) giveUp() {
	o.givenUp.Store(true)
	o.landed()
}

// wanted tells whether a row for the event is still this process's business.
func (o *origin) wanted() bool { return !o.epoch.dropped.Load() }
