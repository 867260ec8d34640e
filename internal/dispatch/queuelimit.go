package dispatch

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// The queue limit. If a rule has as many rows as it may have, a delivery that would become one more
// is either made a dead row without a body (DeadLetterOverflow), or blocked: it stays in memory,
// its event is not released, and the window of its partition fills and waits. First tries that
// failed are blocked in the lane's list of them; those that have not been tried just stay in line.
// A request that is under way goes on without a hand-off. The sweeper looks once a second whether
// the lane is below its limit again.

// blocked is a failed first try that has to wait for room in the queue.
type blocked struct {
	flight *flight
	insert delivery.Insert
	since  time.Time
}

// full reports whether the lane is at its queue limit. No more comes of a rule that is disabled or
// gone: what is here of it, a few windows at most, passes the limit and lets its partitions go on.
// No lock is held.
func (d *Dispatcher) full(l *lane) bool {
	return d.Full != nil && d.Full(l.key) && (d.Rules.Active(l.key) != nil || d.Rules.Paused(l.key))
}

// blocks reports whether deliveries of the lane have to wait in memory. No lock is held.
func (d *Dispatcher) blocks(l *lane) bool { return !d.DeadLetterOverflow && d.full(l) }

// enqueue makes a flight whose request has ended a row that is not leased, and releases its event
// when that is stored.
func (f *flight) enqueue(in delivery.Insert) {
	if !f.store(in) {
		f.lane.block(f, &in)
	}
}

// shelve makes a row of a flight that has not been tried.
func (f *flight) shelve(wait time.Duration, reason delivery.Reason) {
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

// block keeps a flight in memory: in line, or if it has been tried with the row that it is to be.
// During a drain it is given up: the partition's next owner reads its event again.
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

// unblock tries again to make rows of failed first tries. Those that still do not get one are
// blocked again.
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
		l.d.Logger.Error("queue limit reached: deliveries of this rule wait in memory, and the partitions that feed it wait with them; "+
			"get its endpoint to work or disable the rule, or raise WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES, or set "+
			"WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead to go on without these deliveries", "rule_id", l.key.RuleID)
	})
}

// deadLettered logs that deliveries are dead because of the queue limit.
func (l *lane) deadLettered() {
	l.logs[logLimit].Do(func() {
		l.d.Logger.Error("queue limit reached: further deliveries of this rule are dead rows without a body, as "+
			"WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead says; get its endpoint to work or disable the rule, or raise "+
			"WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES", "rule_id", l.key.RuleID)
	})
}

// recheck is what the sweeper does for a lane at its limit: those that have been tried get their
// rows. (The others: see checkLanes.) It reports whether the lane still is at its limit, with
// deliveries that wait.
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
