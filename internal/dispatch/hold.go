package dispatch

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// The park limit. Where as many rows of a rule wait as may, a delivery that would become one more is either made a dead row without a
// body (DeadLetterOverflow), or held: it stays in memory, its event is not released, and the window of its partition fills and waits. Held
// are first tries that failed, in the lane's held; those that have not been tried just stay in its queue. A request that is under
// way goes on without a hand-off. The sweeper looks once a second whether the lane is below its limit again.

// parking is a failed first try that waits to become a row.
type parking struct {
	flight *flight
	insert delivery.Insert
	since  time.Time
}

// full tells whether as many rows of the lane wait as may. No more comes of a rule that is disabled or gone: what is here of it, a few
// windows at most, passes the limit and lets its partitions go on. No lock is held.
func (d *Dispatcher) full(l *lane) bool {
	return d.Full != nil && d.Full(l.key) && (d.Rules.Active(l.key) != nil || d.Rules.Paused(l.key))
}

// holds tells whether deliveries of the lane have to wait in memory. No lock is held.
func (d *Dispatcher) holds(l *lane) bool { return !d.DeadLetterOverflow && d.full(l) }

// park makes a flight whose request has ended a row that is not leased, and releases its event when that is stored.
func (f *flight) park(in delivery.Insert) {
	if !f.store(in) {
		f.lane.hold(f, &in)
	}
}

// shelve makes a row of a flight that has not been tried.
func (f *flight) shelve(wait time.Duration, reason delivery.Reason) {
	if !f.store(delivery.Queue(f.delivery, wait, reason)) {
		f.lane.hold(f, nil)
	}
}

// store hands the row over to the queue. It returns false where the row would be one too many and has to be held.
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
		f.lane.buried(time.Now())
	}
	d.Queue.Enqueue(in, f.origin.wanted, f.origin.landed)
	return true
}

// hold keeps a flight in memory: in the queue, or where it has been tried with the row that it is to be. During a drain it is given up:
// whoever has its partition next reads its event again.
func (l *lane) hold(f *flight, tried *delivery.Insert) {
	now := time.Now()
	l = l.live()
	if f.origin.epoch.draining.Load() { // with mu held: Drain says so before it looks at the lanes
		l.mu.Unlock()
		f.origin.giveUp()
		return
	}
	if tried == nil {
		f.lane = l
		l.enqueue(f)
	} else {
		l.held = append(l.held, parking{f, *tried, now})
	}
	l.mu.Unlock()
	l.limited(now)
}

// unhold tries again to make rows of what is held. What still does not get one is held again.
func (l *lane) unhold(now time.Time) {
	for _, p := range l.takeHeld() {
		p.insert.Delay = max(0, p.insert.Delay-now.Sub(p.since))
		p.flight.park(p.insert)
	}
}

func (l *lane) takeHeld() []parking {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held
	l.held = nil
	return held
}

// limited notes that deliveries of the lane wait because of the park limit.
func (l *lane) limited(now time.Time) {
	l.mu.Lock()
	l.atLimit = true
	l.mu.Unlock()
	if l.mayLog(logLimit, now) {
		l.d.Logger.Error("park limit reached: deliveries of this rule wait in memory, and the partitions that feed it wait with them; "+
			"get its endpoint to work or disable the rule, or raise WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES, or set "+
			"WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead to go on without these deliveries", "rule_id", l.key.RuleID)
	}
}

// buried logs that deliveries are dead because of the park limit.
func (l *lane) buried(now time.Time) {
	if l.mayLog(logLimit, now) {
		l.d.Logger.Error("park limit reached: further deliveries of this rule are dead rows without a body, as "+
			"WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead says; get its endpoint to work or disable the rule, or raise "+
			"WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES", "rule_id", l.key.RuleID)
	}
}

// recheck is what the sweeper does for a lane at its limit: those that have been tried get their rows. (The others: see look.) It tells
// whether the lane still is at its limit, with something waiting.
func (l *lane) recheck(now time.Time) bool {
	l.mu.Lock()
	waits := len(l.held)+l.fresh.len() > 0
	l.atLimit = false
	l.mu.Unlock()
	switch {
	case !waits:
		return false
	case l.d.holds(l):
		l.limited(now) // which says so again every minute
	default:
		l.unhold(now) // which notes the limit again when it is reached on the way
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.atLimit
}
