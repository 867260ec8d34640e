// Package filtering is the stage between the bus and the lanes: it runs the webfilters of an event before its webhooks.
//
// It promises that an event with filters is neither delivered nor released before they have spoken, unless it is a row by then, that a
// filter which is slow delays the events that it filters and no others, and that the deliveries of a row are made exactly when the
// row goes. It leaves out how filters are called (package webfilter) and what becomes of deliveries (package dispatch).
//
// The way of an event:
//
//	            halted ──────────────────────────────────────► released
//	           ╱
//	running ──┼─ spoken ──► deliveries, from memory ─────────► released with them
//	           ╲
//	            hand-off ──► row: leased, kind event ──► released
//	                               │ spoken: one transaction
//	                               ▼
//	                 its deliveries are rows, it is none any more; or it is halted
//
// A row whose process has died is claimed like any other when its lease has run out, and its filters are called again.
package filtering

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// Filters runs the filters of an event.
type Filters interface {
	// Run returns an error only when ctx ends.
	Run(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error)
}

// Queue keeps rows. Its methods do not block.
type Queue interface {
	// Park stores a row, then calls stored once; see dispatch.Queue.
	Park(in delivery.Insert, wanted func() bool, stored func())
	// Settle writes the result of a lease.
	Settle(u delivery.Update)
	// Log appends to the attempt log.
	Log(a delivery.Attempt)
	// MaxBody returns the largest body in bytes that fits a row.
	MaxBody() int
}

// Store ends rows of events.
type Store interface {
	// FinishEvent removes the row of an event and makes those of its deliveries, in one transaction. It returns false, and has done
	// nothing, where the row does not have the token (any more).
	FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error)
}

// Options configure a Stage. All but Logger and Registerer are required.
type Options struct {
	Filters Filters
	Queue   Queue
	Store   Store
	// Plan returns the deliveries of an event by the rules of the moment.
	Plan func(m *payload.Message) []delivery.Delivery
	// HandOff is how long an event may wait for its filters in memory.
	HandOff time.Duration
	// Deadline is the longest that the filters of one event take; leases are made to last longer.
	Deadline time.Duration
	// Concurrency is how many events may be with their filters.
	Concurrency int
	// Full tells whether as many rows of events wait as may; nil: never. It must not block.
	Full func() bool
	// RowsMade is called after rows of deliveries were made. It must not block.
	RowsMade   func()
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o *Options) validate() error {
	switch {
	case o.Filters == nil || o.Queue == nil || o.Store == nil || o.Plan == nil || o.RowsMade == nil:
		return errors.New("filtering: filters, queue, store, Plan and RowsMade are required")
	case o.HandOff <= 0 || o.Deadline <= 0:
		return fmt.Errorf("filtering: hand-off time %s and deadline %s must be above 0", o.HandOff, o.Deadline)
	case o.Concurrency <= 0:
		return fmt.Errorf("filtering: concurrency is %d: with less than 1 no filter is called", o.Concurrency)
	}
	return nil
}

// Stage runs filters. It is safe for concurrent use.
type Stage struct {
	Options
	metrics *metrics

	ctx     context.Context // of calls; ends with Close
	cancel  context.CancelFunc
	workers sync.WaitGroup
	slots   chan struct{}

	mu     sync.Mutex
	epoch  *epoch
	passes map[*pass]struct{} // guarded by mu; those that are neither rows nor ended
	closed bool               // guarded by mu
}

// epoch is the time between two drains.
type epoch struct {
	dropped bool          // guarded by Stage.mu: what is not settled by now belongs to somebody else
	idle    chan struct{} // closed when no pass is left during a drain; guarded by Stage.mu, nil without one
}

// New returns a stage. Close must be called.
func New(o Options) (*Stage, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Full == nil {
		o.Full = func() bool { return false }
	}
	s := &Stage{
		Options: o, metrics: newMetrics(o.Registerer), slots: make(chan struct{}, o.Concurrency),
		epoch: &epoch{}, passes: make(map[*pass]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// phase is where an event in memory stands. It only ever moves down this list.
type phase uint8

const (
	waiting phase = iota // for a slot
	running              // with its filters
	handing              // with its filters, while its row is on the way into the database
	handed               // with its filters, under the lease of its row
	ended
)

// pass is one event on its way from memory.
type pass struct {
	s       *Stage
	epoch   *epoch
	message *payload.Message
	deliver func(*payload.Message)
	release func()

	// Guarded by Stage.mu.
	timer   *time.Timer
	phase   phase
	row     *delivery.Row
	outcome *webfilter.Outcome // came while the row was on its way
}

// Submit takes an event over and does not block. Once its filters have spoken it calls deliver with what they made of it, or release where
// they halted it; where that takes too long, release once the event is a row. Neither is called for what Drain gives up. No Submit may
// run beside Drain, or after Close.
func (s *Stage) Submit(m *payload.Message, deliver func(*payload.Message), release func()) {
	p := &pass{s: s, message: m, deliver: deliver, release: release}
	s.mu.Lock()
	p.epoch = s.epoch
	s.passes[p] = struct{}{}
	p.timer = time.AfterFunc(s.HandOff, p.late)
	s.mu.Unlock()
	s.workers.Go(p.run)
}

// run takes the event through its filters.
func (p *pass) run() {
	s := p.s
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	defer func() { <-s.slots }()
	s.mu.Lock()
	if p.phase != waiting || p.epoch.dropped {
		s.mu.Unlock()
		return // it is a row, or on the way to be one: whoever claims it takes it through
	}
	p.phase = running
	s.mu.Unlock()
	outcome, err := s.Filters.Run(s.ctx, request(p.message))
	if err != nil {
		return // closing: the record is read again, or the lease runs out
	}
	p.spoken(outcome)
}

// spoken does what the filters ask for.
func (p *pass) spoken(outcome *webfilter.Outcome) {
	s := p.s
	s.mu.Lock()
	switch p.phase {
	case handing:
		p.outcome = outcome
		s.mu.Unlock()
	case handed:
		p.phase = ended
		row := p.row
		s.mu.Unlock()
		s.finish(row, p.message, outcome, time.Now().Add(delivery.Lease(s.Deadline)))
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
		s.halted(eventOf(p.message), outcome, 1)
		p.release()
		return
	}
	s.metrics.passed.Inc()
	p.deliver(apply(p.message, outcome))
}

// late hands an event off that has waited long enough. At the park limit it waits in memory instead, and holds up its partition.
func (p *pass) late() {
	if !p.s.Full() {
		p.handOff(delivery.ReasonHandOff)
		return
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.phase <= running && !p.epoch.dropped {
		p.timer.Reset(p.s.HandOff)
	}
}

// handOff makes a row of an event that waits too long for its filters: leased where they are being called. One whose body fits no row
// stays: its filters end within the deadline.
func (p *pass) handOff(reason delivery.Reason) {
	s := p.s
	s.mu.Lock()
	if p.phase > running || p.epoch.dropped || s.closed {
		s.mu.Unlock()
		return
	}
	event := eventOf(p.message)
	event.Body = p.message.Body(delivery.FormatJSON)
	if len(event.Body) > s.Queue.MaxBody() {
		s.mu.Unlock()
		return
	}
	insert := delivery.Queue(&event, 0, reason)
	if p.phase == running {
		p.row = &delivery.Row{Delivery: event, State: delivery.Leased, Claims: 1, Reason: reason}
		_, _ = rand.Read(p.row.Token[:]) // never fails, as documented
		insert = delivery.HandOff(&event, p.row.Token, delivery.Lease(s.Deadline), reason)
	}
	p.phase = handing
	s.mu.Unlock()
	s.metrics.handOffs.Inc()
	s.Queue.Park(insert, p.stillHanding, p.handedOff)
}

// stillHanding is asked right before the row is written. An outcome that has come meanwhile makes it pointless.
func (p *pass) stillHanding() bool {
	s := p.s
	s.mu.Lock()
	dropped, outcome := p.epoch.dropped, p.outcome
	if p.phase == ended || !dropped && outcome == nil {
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
	p.phase = handed
	outcome, dropped := p.outcome, p.epoch.dropped
	if outcome != nil || p.row == nil {
		p.phase = ended
	}
	s.mu.Unlock()
	if !dropped {
		p.release()
	}
	s.gone(p)
	if outcome != nil {
		s.workers.Go(func() { s.finish(p.row, p.message, outcome, time.Now().Add(delivery.Lease(s.Deadline))) })
	}
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

// Drain makes rows of all events that wait for their filters, and returns when none is left. When ctx ends first the rest is dropped: it is
// neither delivered nor released, and read again. The stage goes on afterwards.
func (s *Stage) Drain(ctx context.Context) error {
	s.mu.Lock()
	e := s.epoch
	idle := make(chan struct{})
	var left []*pass
	for p := range s.passes {
		left = append(left, p)
	}
	if len(left) == 0 {
		close(idle)
	} else {
		e.idle = idle
	}
	s.mu.Unlock()
	for _, p := range left {
		p.handOff(delivery.ReasonDrain)
	}
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.passes)
	e.dropped, e.idle = true, nil
	s.epoch = &epoch{}
	for p := range s.passes {
		p.timer.Stop()
	}
	clear(s.passes)
	if n > 0 && err != nil {
		return fmt.Errorf("drain: %d events wait for their filters and will be read again: %w", n, err)
	}
	return nil
}

// Close gives up the calls under way once ctx has ended, or waits for them. Drain comes first.
func (s *Stage) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(ended)
	}()
	defer s.cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		s.cancel()
		<-ended
		return fmt.Errorf("waiting for filters under way: %w", ctx.Err())
	}
}
