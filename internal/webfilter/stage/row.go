package stage

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

const (
	// leaseMargin is what must be left of a lease to write what the filters said.
	leaseMargin = 5 * time.Second
	// againAfter is when a row is due again that can be neither delivered nor halted now.
	againAfter = 10 * time.Second
)

// claim is a claimed row on its way through its filters.
type claim struct {
	turn

	s     *Stage
	row   *delivery.Row
	until time.Time   // the end of its lease
	timer *time.Timer // guarded by Stage.mu; gives it back when it has been in line too long
}

// Resume takes claimed rows of events through their filters. Their leases run out at until.
func (s *Stage) Resume(rows []delivery.Row, until time.Time) {
	var back []*claim
	s.mu.Lock()
	for i := range rows {
		c := &claim{s: s, row: &rows[i], until: until}
		c.turn = turn{eventType: rows[i].EventType, claim: c, do: c.run}
		s.claimed[c.row.RuleID]++
		if s.closed {
			back = append(back, c)
			continue
		}
		if s.join(&c.turn); c.element != nil {
			c.timer = time.AfterFunc(time.Until(c.last()), c.late)
		}
	}
	s.mu.Unlock()
	for _, c := range back {
		c.giveBack(0)
	}
}

// last is when its filters must have been called, or the lease does not last.
func (c *claim) last() time.Time { return c.until.Add(-c.s.Deadline - leaseMargin) }

// late gives a row back that is still in line.
func (c *claim) late() {
	c.s.mu.Lock()
	in := c.s.quit(&c.turn)
	c.s.mu.Unlock()
	if in {
		c.giveBack(0)
	}
}

// giveBack ends a claim whose filters were not called.
func (c *claim) giveBack(delay time.Duration) {
	c.s.Queue.Settle(delivery.Return(c.row, delay))
	c.ended()
}

func (c *claim) ended() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if s.claimed[c.row.RuleID]--; s.claimed[c.row.RuleID] == 0 {
		delete(s.claimed, c.row.RuleID)
	}
}

// run takes the row through its filters.
func (c *claim) run() {
	s, row := c.s, c.row
	s.mu.Lock()
	rest := time.Until(s.resting[row.RuleID])
	s.mu.Unlock()
	if rest > 0 || time.Now().After(c.last()) {
		c.giveBack(max(0, rest))
		return
	}
	defer c.ended()
	m, err := payload.ParseMessage(row.Body)
	if err != nil { // its text may hold parts of the event
		s.Logger.Error("an event that waited for its filters is dead: its row cannot be read", "webhook_id", row.ID.String())
		s.Queue.Settle(delivery.Settle(row, delivery.Decision{
			State: delivery.Dead, Attempts: row.Attempts + 1, Counted: true, Reason: delivery.ReasonUnsendable,
		}, 0))
		return
	}
	m.Event.Traceparent = row.Traceparent
	// The row of an event has the time of its record as its event's time: see eventOf. A rule asks for both (rule.Rule.Takes).
	if m.Recorded = row.EventTime; m.Recorded.IsZero() {
		m.Recorded = row.CreatedAt
	}
	outcome, err := s.Filters.Run(s.ctx, request(m))
	if err != nil { // closing
		s.Queue.Settle(delivery.Return(row, 0))
		return
	}
	s.finish(row, m, outcome, c.until)
}

// finish does with the row of an event what its filters ask for.
func (s *Stage) finish(row *delivery.Row, m *payload.Message, outcome *webfilter.Outcome, until time.Time) {
	switch {
	case outcome.Wait:
		row.Reason = delivery.ReasonPaused
		s.giveAgain(row)
	case stopped(outcome):
		halt := delivery.Settle(row, delivery.Decision{
			State: delivery.Halted, Attempts: row.Attempts + 1, Counted: true, Reason: delivery.ReasonHalted,
		}, status(outcome))
		// Whoever has the row by now may be told something else: what the log and the counter say is what holds.
		if s.write(row, until, func(ctx context.Context) (bool, error) { return s.Ends.End(ctx, halt) }) {
			s.halted(row.Delivery, outcome, row.Attempts+1)
			s.wakeUp(row)
		}
	default:
		s.replace(row, s.Plan(apply(m, outcome)), until)
	}
}

// replace puts rows of its deliveries in the place of an event's. The park limit of each rule holds for them. The limits in all do not: see
// Options.LaneFull.
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
			s.giveAgain(row)
			return
		}
	}
	if s.write(row, until, func(ctx context.Context) (bool, error) { return s.Ends.FinishEvent(ctx, row.ID, row.Token, rows) }) {
		s.metrics.passed.Inc()
		s.wakeUp(row)
		s.Wake()
	}
}

// giveAgain gives a row back for a while, and leaves the others of its lane alone meanwhile: they would fare no better.
func (s *Stage) giveAgain(row *delivery.Row) {
	s.mu.Lock()
	s.resting[row.RuleID] = time.Now().Add(againAfter)
	s.mu.Unlock()
	s.Queue.Settle(delivery.Return(row, againAfter))
}

// wakeUp ends the rest of a lane whose events get through again.
func (s *Stage) wakeUp(row *delivery.Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !time.Now().Before(s.resting[row.RuleID]) {
		delete(s.resting, row.RuleID)
	}
}

// write tells whether what the filters said of an event was written. A database that is away is asked again until the lease is about to
// run out; then the filters are called again by whoever claims the row.
func (s *Stage) write(row *delivery.Row, until time.Time, try func(ctx context.Context) (bool, error)) bool {
	for wait := 100 * time.Millisecond; time.Until(until) > leaseMargin; wait = min(2*wait, 5*time.Second) {
		ctx, cancel := context.WithDeadline(s.ctx, until)
		done, err := try(ctx)
		cancel()
		if err == nil {
			return done
		}
		s.metrics.failures.Inc()
		select {
		case <-time.After(time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))):
		case <-s.ctx.Done():
			return false
		}
	}
	s.Logger.Warn("what filters said of an event could not be written; they will be called again", "webhook_id", row.ID.String())
	return false
}

// halted notes that filters stopped an event. What ended in memory has no row, so the text names the event. It is ours, and holds no URL:
// the plugin's is for people.
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

// maxNote is how many bytes of a reason the attempt log keeps.
const maxNote = 4096

func status(outcome *webfilter.Outcome) int {
	if outcome.Halt == nil {
		return 0
	}
	return outcome.Halt.Status
}
