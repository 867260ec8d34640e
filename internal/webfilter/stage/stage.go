// Package stage is the stage between the bus and the lanes: it runs the webfilters of an event before its webhooks.
//
// It promises that an event with filters is neither delivered nor released before they have spoken, unless it is a row by then, that a
// filter which is slow delays the events that it filters and no others, that no event goes past a filter which waits for its secrets, and
// that the deliveries of a row are made exactly when the row goes. It leaves out how filters are called (package webfilter) and what
// becomes of deliveries (package dispatch).
//
// The way of an event:
//
//	                halted ─────────────────────────────────────► released
//	               ╱
//	in line ── running ── spoken ──► deliveries, from memory ───► released with them
//	   │           ╲
//	   │            hand-off ──► row: leased, kind event ───────► released
//	   │                               │ spoken
//	   │ hand-off, or a filter         ├───────────► halted
//	   │ waits for its secrets         │ one transaction
//	   │                               ├───────────► its deliveries are rows, it is none any more
//	   ▼                               │ a rule of its has as many rows waiting as may, or a filter waits
//	  row: pending ──► released        └───────────► pending
//	   │
//	   └─ claimed ──► in line
//
// Each type of events has a pool of places, as many as a filter row takes calls at a time, and a line for each pool. The row of an event is
// in the lane of the first filter of its type, so that each filter has its own queue and its own park limit. A row whose process has died
// is claimed like any other when its lease has run out, and its filters are called again.
package stage

import (
	"context"
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
	// Enqueue stores a row, then calls stored once; see dispatch.Queue.
	Enqueue(in delivery.Insert, wanted func() bool, stored func())
	// Settle writes the result of a lease.
	Settle(u delivery.Update)
	// Log appends to the attempt log.
	Log(a delivery.Attempt)
	// MaxBody returns the largest body in bytes that fits a row.
	MaxBody() int
}

// Ends ends rows of events. Its methods make one try; they return false, and have done nothing, where the row does not have the token (any
// more).
type Ends interface {
	// FinishEvent removes the row of an event and makes those of its deliveries, in one transaction.
	FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error)
	// End writes the end of a lease.
	End(ctx context.Context, u delivery.Update) (done bool, err error)
}

// Chains are the filters of events as they are now. Its methods neither block nor call back.
type Chains interface {
	// Chain returns the first filter row that is called for events of a type, 0 where there is none, and whether one of them waits for its
	// secrets: such events wait as rows.
	Chain(eventType string) (first int32, held bool)
	// TypeOf returns the type of the events that a filter row is for, called or not; "" where there is no such row.
	TypeOf(row int32) string
}

// Options configure a Stage. All but DeadLetterOverflow, Full, LaneFull, Logger and Registerer are required.
type Options struct {
	Filters Filters
	Chains  Chains
	Queue   Queue
	Ends    Ends
	// Plan returns the deliveries of an event by the rules of the moment.
	Plan func(m *payload.Message) []delivery.Delivery
	// HandOff is how long an event may wait for its filters in memory.
	HandOff time.Duration
	// Deadline is the longest that the filters of one event take; leases are made to last longer.
	Deadline time.Duration
	// Places is how many events of one type may be with their filters: no more than a filter takes at a time, or events go past it.
	Places int
	// Full tells whether as many rows of a lane wait as may, or as many in all; LaneFull leaves those in all out. nil: never. They must not
	// block.
	Full, LaneFull func(delivery.Lane) bool
	// DeadLetterOverflow makes a dead row without a body of a delivery that would be one row too many of its rule; else the event waits as a row.
	DeadLetterOverflow bool
	// Wake is called when rows may be claimed: deliveries were made, or there are places again. It must not block.
	Wake       func()
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o *Options) validate() error {
	switch {
	case o.Filters == nil || o.Chains == nil || o.Queue == nil || o.Ends == nil || o.Plan == nil || o.Wake == nil:
		return errors.New("filtering: filters, chains, queue, ends, Plan and Wake are required")
	case o.HandOff <= 0 || o.Deadline <= 0:
		return fmt.Errorf("filtering: hand-off time %s and deadline %s must be above 0", o.HandOff, o.Deadline)
	case o.Places <= 0:
		return fmt.Errorf("filtering: %d places for events of a type: with less than 1 no filter is called", o.Places)
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

	mu      sync.Mutex
	epoch   *epoch
	passes  map[*pass]struct{}  // guarded by mu; those that are neither rows nor ended
	pools   map[string]*pool    // guarded by mu, by event type; only those in use
	claimed map[int32]int       // guarded by mu: rows of a lane in memory, in line or with their filters
	resting map[int32]time.Time // guarded by mu: until when lanes are left alone whose events find a rule at its park limit
	logged  time.Time           // guarded by mu: when the park limit last stood in the log
	working int                 // guarded by mu: goroutines of workers
	closed  bool                // guarded by mu
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
	never := func(delivery.Lane) bool { return false }
	if o.Full == nil {
		o.Full = never
	}
	if o.LaneFull == nil {
		o.LaneFull = never
	}
	s := &Stage{
		Options: o, metrics: newMetrics(o.Registerer), epoch: &epoch{}, passes: make(map[*pass]struct{}),
		pools: make(map[string]*pool), claimed: make(map[int32]int), resting: make(map[int32]time.Time),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Drain makes rows of all events that wait for their filters, and returns when none is left. What waits in memory for a lane that is at its
// park limit is given up, as is the rest when ctx ends first: it is neither delivered nor released, and read again. The stage goes on
// afterwards.
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
		if !p.giveUp() {
			p.handOff(delivery.ReasonDrain)
		}
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
		s.quit(&p.turn)
	}
	clear(s.passes)
	if n > 0 && err != nil {
		return fmt.Errorf("drain: %d events wait for their filters and will be read again: %w", n, err)
	}
	return nil
}

// Close gives rows that are in line back, and waits for the calls under way, or gives them up once ctx has ended. Drain comes first.
func (s *Stage) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	var back []*claim
	for _, p := range s.pools {
		for e := p.rows.Front(); e != nil; e = p.rows.Front() {
			t := e.Value.(*turn)
			s.quit(t)
			back = append(back, t.claim)
		}
	}
	working := s.working
	s.mu.Unlock()
	for _, c := range back {
		c.giveBack(0)
	}
	defer s.cancel()
	if working == 0 {
		return nil
	}
	ended := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		s.cancel()
		<-ended
		return fmt.Errorf("waiting for filters under way: %w", ctx.Err())
	}
}

// work runs do in a goroutine that Close waits for, and tells whether it does: not when the stage is closed. It is called with mu held.
func (s *Stage) work(do func()) bool {
	if s.closed {
		return false
	}
	s.working++
	s.workers.Go(func() {
		do()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.working--
	})
	return true
}

// limitEvery is how often the park limit is logged at most.
const limitEvery = time.Minute

// limited logs what the park limit of a lane does to events.
func (s *Stage) limited(what string, lane delivery.Lane) {
	s.mu.Lock()
	now := time.Now()
	quiet := !s.logged.IsZero() && now.Sub(s.logged) < limitEvery
	if !quiet {
		s.logged = now
	}
	s.mu.Unlock()
	if quiet {
		return
	}
	whose := "rule_id"
	if lane.Kind == delivery.KindEvent {
		whose = "webfilter"
	}
	s.Logger.Error("park limit reached on the way through webfilters: get the endpoint to work, or raise "+
		"WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES", "effect", what, whose, lane.RuleID)
}
