package stage

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// pass is one event on its way through its webfilters from memory.
type pass struct {
	s       *Stage
	epoch   *inflight.Epoch
	message *payload.Message
	deliver func(*payload.Message)
	release func()

	entry *inflight.Entry
	cell  inflight.Cell[webfilter.Outcome]
	timer *time.Timer // calls late
}

// Submit takes an event over and does not block. Once its webfilters have answered it calls deliver
// with the event as they changed it, or release if they halted it. If that takes too long, or one
// of them waits for its secrets, it calls release once the event is a row. It calls neither for
// what Drain gives up. No Submit may run during Drain, or after Stop.
func (s *Stage) Submit(m *payload.Message, deliver func(*payload.Message), release func()) {
	p := &pass{s: s, message: m, deliver: deliver, release: release}
	p.entry = inflight.NewEntry(m.Event.Type, p.run)
	s.mu.Lock()
	p.epoch = s.epoch
	p.epoch.Add()
	s.passes[p] = struct{}{}
	p.timer = time.AfterFunc(s.HandOff, p.late)
	s.mu.Unlock()
	p.proceed()
}

// chain returns the lane of the event's row, and whether a webfilter waits for its secrets.
func (p *pass) chain() (lane delivery.Lane, sealed bool) {
	first, sealed := p.s.Chains.Chain(p.message.Event.Type)
	return delivery.Lane{Kind: delivery.KindEvent, RuleID: first}, sealed
}

// proceed puts an event in line, or makes it a row if a webfilter waits for its secrets; at the
// queue limit, late will.
func (p *pass) proceed() {
	lane, sealed := p.chain()
	if sealed {
		if !p.s.Full(lane) {
			p.handOff(delivery.ReasonPaused)
		}
		return
	}
	p.s.mu.Lock() // with Drain, which takes out of line what it drops
	defer p.s.mu.Unlock()
	if p.cell.Waits() && !p.epoch.Dropped() {
		p.s.pool.Join(p.entry)
	}
}

// run takes the event through its webfilters.
func (p *pass) run() {
	s := p.s
	if p.epoch.Dropped() || !p.cell.Begin(s.Deadline) {
		return // it is a row, or about to be one: its next claim takes it through
	}
	outcome, err := s.Filters.Run(s.pool.Context(), request(p.message))
	if err == nil {
		p.answered(outcome)
		return
	}
	// The process stops: the record is read again, or the row is claimed again.
	if row, _ := p.cell.Row(); row != nil {
		s.Queue.Settle(delivery.Return(row, 0))
	}
}

// answered does what the webfilters ask for.
func (p *pass) answered(outcome *webfilter.Outcome) {
	s := p.s
	if outcome.Wait && !p.epoch.Dropped() && p.cell.WaitAgain() {
		p.timer.Reset(s.HandOff) // for what cannot proceed now
		p.proceed()
		return
	}
	switch p.cell.Finish(outcome, outcome.Wait) {
	case inflight.Leased:
		row, until := p.cell.Row()
		s.finish(row, p.message, outcome, until)
	case inflight.Yours:
		p.timer.Stop()
		if !p.epoch.Dropped() {
			p.conclude(outcome)
		}
		s.gone(p)
	case inflight.Later:
	}
}

// conclude ends an event that has no row.
func (p *pass) conclude(outcome *webfilter.Outcome) {
	if stopped(outcome) {
		p.s.halted(eventOf(p.message, 0), outcome, 1)
		p.release()
	} else {
		p.s.metrics.passed.Inc()
		p.deliver(apply(p.message, outcome))
	}
}

// late hands off an event that has waited long enough. At the queue limit its partition waits.
func (p *pass) late() {
	s := p.s
	lane, sealed := p.chain()
	if !s.Full(lane) {
		p.handOff(delivery.ReasonHandOff)
	} else if p.cell.Open() && !p.epoch.Dropped() {
		p.timer.Reset(s.HandOff)
		s.limited("events that wait for this webfilter stay in memory, and their partitions wait with them", lane)
	}
	if !sealed { // it may have been before: then the event is not in line yet
		p.proceed()
	}
}

// giveUp drops an event that waits in memory for the queue limit, and reports whether it did.
func (p *pass) giveUp() bool {
	if lane, _ := p.chain(); !p.s.Full(lane) || !p.cell.Abandon() {
		return false
	}
	p.s.pool.Remove(p.entry)
	p.timer.Stop()
	p.s.gone(p)
	return true
}

// handOff makes a row of an event, leased if its webfilters are being called. If its body fits no
// row it stays, as they end within the deadline; if they wait for their secrets its row is dead.
func (p *pass) handOff(reason delivery.Reason) {
	s := p.s
	lane, sealed := p.chain()
	event := eventOf(p.message, lane.RuleID)
	event.Body = p.message.Body(delivery.FormatJSON)
	large := len(event.Body) > s.Queue.MaxBody()
	if sealed && reason == delivery.ReasonHandOff {
		reason = delivery.ReasonPaused
	}
	insert := delivery.Queue(&event, 0, reason)
	switch {
	case p.epoch.Dropped() || s.pool.Stopped():
		return
	case large && !sealed:
		if p.cell.Waits() {
			p.timer.Reset(s.HandOff) // late gets it in line if it is in none
		}
		return
	case p.cell.Queue():
		if large {
			insert = delivery.DeadLetter(&event, 0, 0)
		}
	case large:
		return
	default:
		var ok bool
		if insert, ok = p.cell.Lease(&event, s.Deadline, reason); !ok {
			return
		}
	}
	s.pool.Remove(p.entry)
	p.timer.Stop()
	s.metrics.handOffs.Inc()
	s.Queue.Enqueue(insert, p.wanted, p.stored)
}

// wanted is asked right before the row is written.
func (p *pass) wanted() bool {
	wanted, outcome, over := p.cell.Wanted(p.epoch.Dropped())
	if outcome != nil {
		p.conclude(outcome)
	}
	if over {
		p.s.gone(p)
	}
	return wanted
}

// stored is called when the row is stored.
func (p *pass) stored() {
	s := p.s
	if outcome := p.cell.Stored(); outcome != nil {
		row, until := p.cell.Row()
		s.pool.Go(func() { s.finish(row, p.message, outcome, until) }) // if stopped, the lease runs out
	}
	if !p.epoch.Dropped() {
		p.release()
	}
	s.gone(p)
}

// gone takes a pass out that is a row, has ended or is dropped.
func (s *Stage) gone(p *pass) {
	s.mu.Lock()
	delete(s.passes, p)
	s.mu.Unlock()
	p.epoch.Release()
}
