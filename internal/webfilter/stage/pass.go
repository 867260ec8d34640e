package stage

import (
	"crypto/rand"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// phase is where an event in memory stands. It moves down this list, but for one whose filters turn out to wait for their secrets: it waits
// as well.
type phase uint8

const (
	waiting phase = iota // for a place, or for its filters to have their secrets
	running              // with its filters
	handing              // its row is on the way into the database; with its filters, if the row is leased
	handed               // with its filters, under the lease of its row
	ended
)

// pass is one event on its way from memory.
type pass struct {
	turn

	s       *Stage
	epoch   *epoch
	message *payload.Message
	deliver func(*payload.Message)
	release func()

	// Guarded by Stage.mu.
	timer   *time.Timer
	phase   phase
	row     *delivery.Row      // that is leased by this process
	until   time.Time          // the end of that lease
	outcome *webfilter.Outcome // came while the row was on its way
}

// Submit takes an event over and does not block. Once its filters have spoken it calls deliver with what they made of it, or release where
// they halted it; where that takes too long, or one of them waits for its secrets, release once the event is a row. Neither is called for
// what Drain gives up. No Submit may run beside Drain, or after Close.
func (s *Stage) Submit(m *payload.Message, deliver func(*payload.Message), release func()) {
	p := &pass{s: s, message: m, deliver: deliver, release: release}
	p.turn = turn{eventType: m.Event.Type, do: p.run}
	s.mu.Lock()
	p.epoch = s.epoch
	s.passes[p] = struct{}{}
	p.timer = time.AfterFunc(s.HandOff, p.late)
	s.mu.Unlock()
	p.proceed()
}

// chain returns the lane of the event's row, and whether one of its filters waits for its secrets.
func (p *pass) chain() (lane delivery.Lane, held bool) {
	first, held := p.s.Chains.Chain(p.message.Event.Type)
	return delivery.Lane{Kind: delivery.KindEvent, RuleID: first}, held
}

// proceed gets an event that waits in line, or makes it a row where a filter waits for its secrets; at the park limit, late will.
func (p *pass) proceed() {
	lane, held := p.chain()
	if held {
		if !p.s.Full(lane) {
			p.handOff(delivery.ReasonPaused)
		}
		return
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.phase == waiting && !p.epoch.dropped && p.element == nil && !p.begun {
		p.s.join(&p.turn)
	}
}

// run takes the event through its filters.
func (p *pass) run() {
	s := p.s
	s.mu.Lock()
	if p.phase != waiting || p.epoch.dropped {
		s.mu.Unlock()
		return // it is a row, or on the way to be one: whoever claims it takes it through
	}
	p.phase = running
	s.mu.Unlock()
	outcome, err := s.Filters.Run(s.ctx, request(p.message))
	if err == nil {
		p.spoken(outcome)
		return
	}
	// Closing: the record is read again, or the row is for whoever claims it.
	s.mu.Lock()
	leased := p.phase == handed
	s.mu.Unlock()
	if leased {
		s.Queue.Settle(delivery.Return(p.row, 0))
	}
}

// spoken does what the filters ask for.
func (p *pass) spoken(outcome *webfilter.Outcome) {
	s := p.s
	s.mu.Lock()
	switch {
	case p.phase == handing:
		p.outcome = outcome
		s.mu.Unlock()
	case p.phase == handed:
		p.phase = ended
		row, until := p.row, p.until
		s.mu.Unlock()
		s.finish(row, p.message, outcome, until)
	case outcome.Wait && !p.epoch.dropped:
		p.phase = waiting
		p.timer.Reset(s.HandOff) // what cannot proceed now will by late, which may have been there already
		s.mu.Unlock()
		p.proceed()
	default:
		p.phase = ended
		dropped := p.epoch.dropped
		p.timer.Stop()
		s.mu.Unlock()
		if !dropped {
			p.conclude(outcome)
		}
		s.gone(p)
	}
}

// conclude ends an event that has no row.
func (p *pass) conclude(outcome *webfilter.Outcome) {
	s := p.s
	if stopped(outcome) {
		s.halted(eventOf(p.message, 0), outcome, 1)
		p.release()
		return
	}
	s.metrics.passed.Inc()
	p.deliver(apply(p.message, outcome))
}

// late hands an event off that has waited long enough. At the park limit it waits in memory instead, and holds up its partition.
func (p *pass) late() {
	lane, held := p.chain()
	if !p.s.Full(lane) {
		p.handOff(delivery.ReasonHandOff)
	} else {
		p.s.mu.Lock()
		waits := p.phase <= running && !p.epoch.dropped
		if waits {
			p.timer.Reset(p.s.HandOff)
		}
		p.s.mu.Unlock()
		if waits {
			p.s.limited("events that wait for this webfilter stay in memory, and their partitions wait with them", lane)
		}
	}
	if !held { // as it was before, perhaps: then it is in no line yet
		p.proceed()
	}
}

// giveUp ends an event that waits in memory because of the park limit, and tells whether it is one. It is neither delivered nor released.
func (p *pass) giveUp() bool {
	s := p.s
	lane, _ := p.chain()
	if !s.Full(lane) {
		return false
	}
	s.mu.Lock()
	if p.phase != waiting || p.begun {
		s.mu.Unlock()
		return false
	}
	s.quit(&p.turn)
	p.phase = ended
	p.timer.Stop()
	s.mu.Unlock()
	s.gone(p)
	return true
}

// handOff makes a row of an event that waits too long for its filters: leased where they are being called. One whose body fits no row
// stays, because its filters end within the deadline; but where they wait for their secrets its row is dead.
func (p *pass) handOff(reason delivery.Reason) {
	s := p.s
	lane, held := p.chain()
	event := eventOf(p.message, lane.RuleID)
	event.Body = p.message.Body(delivery.FormatJSON)
	if held && reason == delivery.ReasonHandOff {
		reason = delivery.ReasonPaused
	}
	s.mu.Lock()
	if p.phase > running || p.epoch.dropped || s.closed {
		s.mu.Unlock()
		return
	}
	insert := delivery.Queue(&event, 0, reason)
	switch large := len(event.Body) > s.Queue.MaxBody(); {
	case large && held && p.phase == waiting:
		insert = delivery.DeadLetter(&event, 0, 0)
	case large:
		if p.phase == waiting && p.element == nil {
			p.timer.Reset(s.HandOff) // late gets it in line
		}
		s.mu.Unlock()
		return
	case p.phase == running:
		p.row = &delivery.Row{Delivery: event, State: delivery.Leased, Claims: 1, Reason: reason}
		_, _ = rand.Read(p.row.Token[:]) // never fails, as documented
		insert = delivery.HandOff(&event, p.row.Token, delivery.Lease(s.Deadline), reason)
	}
	s.quit(&p.turn)
	p.phase = handing
	p.timer.Stop()
	s.mu.Unlock()
	s.metrics.handOffs.Inc()
	s.Queue.Enqueue(insert, p.stillHanding, p.handedOff)
}

// stillHanding is asked right before the row is written. An outcome that has come meanwhile makes it pointless, unless that is to wait.
func (p *pass) stillHanding() bool {
	s := p.s
	s.mu.Lock()
	dropped, outcome := p.epoch.dropped, p.outcome
	if p.phase == ended || !dropped && (outcome == nil || outcome.Wait) {
		wanted := p.phase != ended
		s.mu.Unlock()
		return wanted
	}
	p.phase = ended
	s.mu.Unlock()
	if !dropped {
		p.conclude(outcome)
	}
	s.gone(p)
	return false
}

// handedOff is called when the row is stored.
func (p *pass) handedOff() {
	s := p.s
	s.mu.Lock()
	p.phase, p.until = handed, time.Now().Add(delivery.Lease(s.Deadline))
	outcome, dropped := p.outcome, p.epoch.dropped
	if outcome != nil || p.row == nil {
		p.phase = ended
	}
	if outcome != nil { // where the stage is closed the lease runs out
		s.work(func() { s.finish(p.row, p.message, outcome, p.until) })
	}
	s.mu.Unlock()
	if !dropped {
		p.release()
	}
	s.gone(p)
}

// gone takes a pass out that is a row, has ended or is dropped.
func (s *Stage) gone(p *pass) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.passes, p)
	if len(s.passes) == 0 && s.epoch.idle != nil {
		close(s.epoch.idle)
		s.epoch.idle = nil
	}
}
