package dispatch

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// barrier tells why nothing may be sent to the endpoint at the moment, and for how long that is known to last; ReasonNone where the
// lane is open. The caller holds mu.
func (l *lane) barrier(now time.Time) (delivery.Reason, time.Duration) {
	if l.paused {
		if l.adopt(); l.paused { // with what the rule says of its limits, where the pause is over
			return delivery.ReasonPaused, 0
		}
	}
	if !l.closedUntil.IsZero() {
		if wait := l.closedUntil.Sub(now); wait > 0 {
			return delivery.ReasonRetryAfter, wait
		}
		l.closedUntil = time.Time{}
	}
	if l.breaker.Look() == breaker.Open {
		return delivery.ReasonCircuitOpen, 0
	}
	return delivery.ReasonNone, 0
}

// switched counts and logs that an attempt has changed the state of the breaker.
func (l *lane) switched(before, after breaker.State, now time.Time) {
	switch {
	case after == breaker.Open && before == breaker.Closed:
		l.d.metrics.openings.Inc()
		if l.mayLog(logOpened, now) {
			l.d.Logger.Warn("circuit breaker opened: the endpoint of this rule fails; its deliveries wait as rows, "+
				"and one request at a time shows whether it works again", "rule_id", l.key.RuleID, "failures_in_a_row", breaker.TripAfter,
				"next_request_in", breaker.OpenFor.String())
		}
	case after == breaker.Closed:
		if l.mayLog(logClosed, now) {
			l.d.Logger.Info("circuit breaker closed: the endpoint of this rule works again", "rule_id", l.key.RuleID)
		}
	}
}

// clear makes rows of what waits in a lane that may not send, and gives claimed rows back. In a lane that may send it does nothing.
func (l *lane) clear(now time.Time) {
	full := l.d.holds(l)
	l.mu.Lock()
	reason, wait := l.barrier(now)
	if reason == delivery.ReasonNone || l.waiting() == 0 {
		l.mu.Unlock()
		return
	}
	all := func(*flight) bool { return true }
	claimed := l.claimed.take(all)
	var fresh []*flight
	if !full {
		fresh = l.fresh.take(all)
	}
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(claimed) + len(fresh)))
	for _, f := range claimed {
		l.d.Queue.Settle(delivery.Return(f.row, wait))
	}
	for _, f := range fresh {
		f.shelve(wait, reason)
	}
	if full {
		l.limited(now)
	}
}

// What a lane logs once in logEvery at most; counters have the rest.
const (
	logDeath = iota
	logOpened
	logClosed
	logLimit
	logTopics
)

const logEvery = time.Minute

func (l *lane) mayLog(topic int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.logged[topic]; !last.IsZero() && now.Sub(last) < logEvery {
		return false
	}
	l.logged[topic] = now
	return true
}

// died logs a dead delivery.
func (l *lane) died(d *delivery.Delivery, v delivery.Decision, status int) {
	if l.mayLog(logDeath, time.Now()) {
		l.d.Logger.Warn("delivery is dead; others of this rule within a minute are only counted", "webhook_id", d.ID.String(),
			"rule_id", d.RuleID, "event_type", d.EventType, "reason", string(v.Reason), "status", status, "attempts", v.Attempts)
	}
}
