package dispatch

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// barrier returns why the lane may not send and for how long that is known to last; ReasonNone if
// it may. The caller holds mu.
func (l *lane) barrier(now time.Time) (delivery.Reason, time.Duration) {
	if l.paused {
		if l.readRule(); l.paused {
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

// switched counts and logs a breaker's change of state by an attempt.
func (l *lane) switched(before, after breaker.State) {
	switch {
	case after == breaker.Open && before == breaker.Closed:
		l.d.metrics.openings.Inc()
		l.logs[logOpened].Do(func() {
			l.d.Logger.Warn("circuit breaker opened: the endpoint of this rule keeps failing; "+
				"its deliveries wait as rows, and single requests probe it", "rule_id", l.key.RuleID, "failures_in_a_row", breaker.TripAfter,
				"next_request_in", breaker.OpenFor.String())
		})
	case after == breaker.Closed:
		l.logs[logClosed].Do(func() {
			l.d.Logger.Info("circuit breaker closed: the endpoint of this rule has recovered", "rule_id", l.key.RuleID)
		})
	}
}

// clear empties a lane that may not send: first tries become rows, claimed rows are returned.
func (l *lane) clear(now time.Time) {
	full := l.d.blocks(l)
	l.mu.Lock()
	reason, wait := l.barrier(now)
	if reason == delivery.ReasonNone || l.waiting() == 0 {
		l.mu.Unlock()
		return
	}
	rows := l.line.TakeRows(everyFlight)
	var first []*flight
	if !full {
		first = l.line.TakeFirst(everyFlight)
	}
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(rows) + len(first)))
	for _, f := range rows {
		l.d.Queue.Settle(delivery.Return(f.row, wait))
	}
	for _, f := range first {
		f.enqueueUntried(wait, reason)
	}
	if full {
		l.limited()
	}
}

func everyFlight(*flight) bool { return true }

// What a lane logs, each at most once in logEvery.
const (
	logDeath = iota
	logOpened
	logClosed
	logLimit
	logTopics
)

const logEvery = time.Minute

// logDead logs a dead delivery.
func (l *lane) logDead(d *delivery.Delivery, v delivery.Decision, status int) {
	l.logs[logDeath].Do(func() {
		l.d.Logger.Warn("delivery dead-lettered; further ones of this rule are only counted for a minute", "webhook_id", d.ID.String(),
			"rule_id", d.RuleID, "event_type", d.EventType, "reason", string(v.Reason), "status", status, "attempts", v.Attempts)
	})
}
