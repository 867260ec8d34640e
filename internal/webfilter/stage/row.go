package stage

import (
	"context"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// againAfter is when a row is due again that can be neither delivered nor halted now.
const againAfter = 10 * time.Second

// runRow takes the row of an event through its webfilters. Its lease runs out at until.
func (s *Stage) runRow(ctx context.Context, row *delivery.Row, until time.Time) {
	m, err := payload.ParseMessage(row.Body)
	if err != nil { // its text may hold parts of the event
		s.Logger.Error("event dead-lettered before its webfilters: its row cannot be read", "webhook_id", row.ID.String())
		s.Queue.Settle(delivery.Settle(row, ended(row, delivery.Dead, delivery.ReasonUnsendable), 0))
		return
	}
	m.Event.Traceparent = row.Traceparent
	// The row of an event has the time of its record as its event's time: see eventOf. A rule asks
	// for both (rule.Rule.Takes).
	if m.Recorded = row.EventTime; m.Recorded.IsZero() {
		m.Recorded = row.CreatedAt
	}
	outcome, err := s.Filters.Run(ctx, request(m))
	if err != nil { // the process stops
		s.Queue.Settle(delivery.Return(row, 0))
		return
	}
	s.finish(row, m, outcome, until)
}

func ended(row *delivery.Row, state delivery.State, reason delivery.Reason) delivery.Decision {
	return delivery.Decision{State: state, Attempts: row.Attempts + 1, Counted: true, Reason: reason}
}

// finish does with the row of an event what its webfilters ask for.
func (s *Stage) finish(row *delivery.Row, m *payload.Message, outcome *webfilter.Outcome, until time.Time) {
	switch {
	case outcome.Wait:
		row.Reason = delivery.ReasonPaused
		s.pool.Rest(row, againAfter)
	case stopped(outcome):
		halt := delivery.Settle(row, ended(row, delivery.Halted, delivery.ReasonHalted), status(outcome))
		// The row's next owner may be told something else: only what was written counts.
		if s.write(row, until, func(ctx context.Context) (bool, error) { return s.Ends.End(ctx, halt) }) {
			s.halted(row.Delivery, outcome, row.Attempts+1)
			s.pool.Recovered(row.RuleID)
		}
	default:
		s.replace(row, s.Plan(apply(m, outcome)), until)
	}
}

// replace makes rows of an event's deliveries in place of the event's own. The queue limit of each
// rule holds for them, but not the limits on all rows: see Options.LaneFull.
func (s *Stage) replace(row *delivery.Row, planned []delivery.Delivery, until time.Time) {
	rows := make([]delivery.Insert, len(planned))
	for i := range planned {
		switch d := &planned[i]; {
		case len(d.Body) > s.Queue.MaxBody():
			rows[i] = delivery.DeadLetter(d, 0, 0)
		case !s.LaneFull(d.Lane()):
			rows[i] = delivery.Queue(d, 0, delivery.ReasonFiltering)
		case s.DeadLetterOverflow:
			rows[i] = delivery.Overflow(d, 0, 0)
			s.limited("deliveries of events that were rows are dead rows without a body, as WEBHOOK_DISPATCHER_QUEUE_OVERFLOW=dead says", d.Lane())
		default:
			s.metrics.returned.Inc()
			s.limited("events that webfilters let through wait for room for the deliveries of this rule", d.Lane())
			s.pool.Rest(row, againAfter)
			return
		}
	}
	if s.write(row, until, func(ctx context.Context) (bool, error) { return s.Ends.FinishEvent(ctx, row.ID, row.Token, rows) }) {
		s.metrics.passed.Inc()
		s.pool.Recovered(row.RuleID)
		s.Wake()
	}
}

// write reports whether the result of an event's webfilters was written. If the database is away it
// tries again until the lease is about to run out; then the row's next claim calls them again.
func (s *Stage) write(row *delivery.Row, until time.Time, try func(ctx context.Context) (bool, error)) bool {
	parent := s.pool.Context()
	for tries := new(backoff.Backoff); time.Until(until) > inflight.LeaseMargin; {
		ctx, cancel := context.WithDeadline(parent, until)
		done, err := try(ctx)
		cancel()
		if err == nil {
			return done
		}
		s.metrics.failures.Inc()
		if tries.Wait(parent) != nil {
			return false
		}
	}
	s.Logger.Warn("webfilter results of an event could not be written; the webfilters will be called again", "webhook_id", row.ID.String())
	return false
}

// halted notes that webfilters stopped an event. An event that ended in memory has no row, so the
// text names it. The text is ours and holds no URL, unlike the plugin's, which is for people.
func (s *Stage) halted(event delivery.Delivery, outcome *webfilter.Outcome, attempt int) {
	s.metrics.halted.Inc()
	a := delivery.Attempt{
		ID: event.ID, Kind: delivery.KindEvent, EventType: event.EventType, Number: attempt, At: time.Now(), Duration: outcome.Calling,
		Status: status(outcome), Class: delivery.ClassHalted, Response: []byte("event " + event.EventID + ": "),
	}
	if outcome.Halt != nil {
		a.RuleID = outcome.Halt.Row
		a.Response = append(a.Response, outcome.Halt.Cause...)
	} else {
		a.Response = payload.AppendJSON(a.Response, outcome.Exceptions)
	}
	a.Response = a.Response[:min(len(a.Response), maxNote)]
	s.Queue.Log(a)
}

const maxNote = 4096 // bytes of a reason that the attempt log keeps

func status(outcome *webfilter.Outcome) int {
	if outcome.Halt == nil {
		return 0
	}
	return outcome.Halt.Status
}
