package dispatch

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// At the queue limit a delivery that would become a row is either dead-lettered without a body
// (DeadLetterOverflow), or blocked: it stays in memory, its event is not released, and its
// partition's window fills. Failed first tries are in the lane's blocked list, untried ones stay in
// line, and requests in flight are not handed off. The sweeper checks the limit every second.

// blocked is a failed first try that has to wait for room in the queue.
type blocked struct {
	flight *flight
	insert delivery.Insert
	since  time.Time
}

// full reports whether the lane is at its queue limit. The last deliveries of a rule that is
// disabled or gone, a few windows at most, may pass it to free their partitions. No lock is held.
func (d *Dispatcher) full(l *lane) bool {
	return d.Full != nil && d.Full(l.key) && (d.Rules.Active(l.key) != nil || d.Rules.Paused(l.key))
}

// blocks reports whether deliveries of the lane have to wait in memory. No lock is held.
func (d *Dispatcher) blocks(l *lane) bool { return !d.DeadLetterOverflow && d.full(l) }

// enqueue stores a flight whose request has ended as a row that is not leased, or blocks it.
func (f *flight) enqueue(in delivery.Insert) {
	if !f.store(in) {
		f.lane.block(f, &in)
	}
}

// enqueueUntried stores an untried flight as a row, or blocks it.
func (f *flight) enqueueUntried(wait time.Duration, reason delivery.Reason) {
	if !f.store(delivery.Queue(f.delivery, wait, reason)) {
		f.lane.block(f, nil)
	}
}

// store hands the row over to the queue. It returns false if the queue limit blocks it.
func (f *flight) store(in delivery.Insert) bool {
	d := f.lane.d
	switch {
	case in.State == delivery.Dead: // it waits for nothing
	case len(in.Body) > d.Queue.MaxBody():
		in = delivery.DeadLetter(f.delivery, in.Attempts, in.LastStatus)
	case !d.full(f.lane):
	case !d.DeadLetterOverflow:
		return false
	default:
		in = delivery.Overflow(f.delivery, in.Attempts, in.LastStatus)
		d.metrics.overflow.Inc()
		f.lane.deadLettered()
	}
	d.Queue.Enqueue(in, f.origin.wanted, f.origin.landed)
	return true
}

// block keeps a flight in memory: untried in line, or tried with its future row. During a drain it
// is given up: the next owner reads its event again.
func (l *lane) block(f *flight, tried *delivery.Insert) {
	l = l.live()
	if f.origin.epoch.Draining() { // with mu held: Drain says so before it looks at the lanes
		l.mu.Unlock()
		f.origin.giveUp()
		return
	}
	if tried == nil {
		f.lane = l
		l.join(f)
	} else {
		l.blocked = append(l.blocked, blocked{f, *tried, time.Now()})
	}
	l.mu.Unlock()
	l.limited()
}

// unblock tries again to store failed first tries as rows.
func (l *lane) unblock(now time.Time) {
	l.mu.Lock()
	all := l.blocked
	l.blocked = nil
	l.mu.Unlock()
	for _, b := range all {
		b.insert.Delay = max(0, b.insert.Delay-now.Sub(b.since))
		b.flight.enqueue(b.insert)
	}
}

// limited notes that deliveries of the lane wait because of the queue limit.
func (l *lane) limited() {
	l.mu.Lock()
	l.atLimit = true
	l.mu.Unlock()
	l.logs[logLimit].Do(func() {
		l.d.Logger.Error("queue limit reached: deliveries of this rule wait in memory and block their partitions; "+
			"get its endpoint to work or disable the rule, or raise WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES, or set "+
			"WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead to go on without these deliveries", "rule_id", l.key.RuleID)
	})
}

// deadLettered logs that deliveries are dead because of the queue limit.
func (l *lane) deadLettered() {
	l.logs[logLimit].Do(func() {
		l.d.Logger.Error("queue limit reached: further deliveries of this rule are dead-lettered without a body, as "+
			"set by WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead; get its endpoint to work or disable the rule, or raise "+
			"WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES", "rule_id", l.key.RuleID)
	})
}

// recheck stores the blocked flights of a lane that is below its limit again, and reports whether
// the lane still is at its limit with waiting deliveries.
func (l *lane) recheck(now time.Time) bool {
	l.mu.Lock()
	waits := len(l.blocked)+l.firstTries() > 0
	l.atLimit = false
	l.mu.Unlock()
	switch {
	case !waits:
		return false
	case l.d.blocks(l):
		l.limited() // which says so again every minute
	default:
		l.unblock(now) // which notes the limit again when it is reached on the way
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.atLimit
}
