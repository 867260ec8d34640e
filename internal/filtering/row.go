package filtering

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// leaseMargin is what must be left of a lease to write what the filters said.
const leaseMargin = 5 * time.Second

// maxRoom is how many rows are claimed at a time, at most.
const maxRoom = 32

// Room implements the claimer's view of a lane, for events: how many rows may be claimed now.
func (s *Stage) Room() (room int, lease time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, 0
	}
	return min(cap(s.slots)-len(s.slots), maxRoom), delivery.Lease(s.Deadline)
}

// Resume takes claimed rows of events through their filters. Their leases run out at until.
func (s *Stage) Resume(rows []delivery.Row, until time.Time) {
	for i := range rows {
		row := &rows[i]
		s.workers.Go(func() { s.resume(row, until) })
	}
}

func (s *Stage) resume(row *delivery.Row, until time.Time) {
	wait := time.NewTimer(time.Until(until) - s.Deadline - leaseMargin)
	defer wait.Stop()
	select {
	case s.slots <- struct{}{}:
	case <-wait.C:
		s.Queue.Settle(delivery.Return(row, 0))
		return
	case <-s.ctx.Done():
		return
	}
	defer func() { <-s.slots }()
	m, err := payload.ParseMessage(row.Body)
	if err != nil { // its text may hold parts of the event
		s.Logger.Error("an event that waited for its filters is dead: its row cannot be read", "webhook_id", row.ID.String())
		s.Queue.Settle(delivery.Settle(row, delivery.Verdict{
			State: delivery.Dead, Attempts: row.Attempts + 1, Counted: true, Reason: delivery.ReasonUnsendable,
		}, 0))
		return
	}
	m.Event.Traceparent, m.Recorded = row.Traceparent, row.CreatedAt
	outcome, err := s.Filters.Run(s.ctx, request(m))
	if err != nil {
		return // closing: the lease runs out
	}
	s.finish(row, m, outcome, until)
}

// finish ends the row of an event: its deliveries take its place, or it is halted. A database that is away is asked again until the
// lease is about to run out; then the filters are called again by whoever claims the row.
func (s *Stage) finish(row *delivery.Row, m *payload.Message, outcome *webfilter.Outcome, until time.Time) {
	if stopped(outcome) {
		s.halted(row.Delivery, outcome, row.Attempts+1)
		s.Queue.Settle(delivery.Settle(row, delivery.Verdict{
			State: delivery.Halted, Attempts: row.Attempts + 1, Counted: true, Reason: delivery.ReasonHalted,
		}, status(outcome)))
		return
	}
	s.metrics.passed.Inc()
	planned := s.Plan(apply(m, outcome))
	rows := make([]delivery.Insert, len(planned))
	for i := range planned {
		if d := &planned[i]; len(d.Body) > s.Queue.MaxBody() {
			rows[i] = delivery.Bury(d, 0, 0)
		} else {
			rows[i] = delivery.Queue(d, 0, delivery.ReasonFiltering)
		}
	}
	for wait := 100 * time.Millisecond; time.Until(until) > leaseMargin; wait = min(2*wait, 5*time.Second) {
		ctx, cancel := context.WithDeadline(s.ctx, until)
		done, err := s.Store.FinishEvent(ctx, row.ID, row.Token, rows)
		cancel()
		if err == nil {
			if done {
				s.RowsMade()
			}
			return
		}
		s.metrics.failures.Inc()
		select {
		case <-time.After(time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))):
		case <-s.ctx.Done():
			return
		}
	}
	s.Logger.Warn("what filters said of an event could not be written; they will be called again", "webhook_id", row.ID.String())
}

// halted notes that filters stopped an event.
func (s *Stage) halted(event delivery.Delivery, outcome *webfilter.Outcome, attempt int) {
	s.metrics.halted.Inc()
	a := delivery.Attempt{
		ID: event.ID, Kind: delivery.KindEvent, EventType: event.EventType, Number: attempt, At: time.Now(), Duration: outcome.Calling,
		Status: status(outcome), Class: delivery.ClassHalted,
	}
	if outcome.Halt != nil {
		a.RuleID, a.Response = outcome.Halt.Row, []byte(outcome.Halt.Message)
	} else {
		a.Response = payload.AppendJSON(nil, outcome.Exceptions)
	}
	a.Response = a.Response[:min(len(a.Response), maxNote)]
	s.Queue.Log(a)
}

// maxNote is how many bytes of a reason the attempt log keeps.
const maxNote = 4096

func status(outcome *webfilter.Outcome) int {
	if outcome.Halt == nil {
		return 0
	}
	return outcome.Halt.Status
}
