// Package stage runs the webfilters of an event from the bus before the dispatcher gets it.
//
// It promises that an event with webfilters is neither delivered nor released before they have
// answered, unless it is a row by then; that a slow webfilter delays only the events that it
// filters; that no event passes a webfilter which waits for its secrets; and that a row is replaced
// by its deliveries in one step. Package webfilter calls webfilters, package dispatch delivers.
//
// How an event goes through it (hand-off and claims: see package inflight):
//
//	                halted ─────────────────────────────────────► released
//	               ╱
//	in line ── running ── answer ──► deliveries, from memory ───► released with them
//	   │           ╲
//	   │            hand-off ──► row: leased, kind event ───────► released
//	   │                               │ answer
//	   │ hand-off, or a webfilter      ├───────────► halted
//	   │ waits for its secrets         │ one transaction
//	   │                               ├───────────► its deliveries are rows, and its own row is gone
//	   ▼                               │ one of its rules is at its queue limit, or a webfilter waits
//	  row: pending ──► released        └───────────► pending
//	   │
//	   └─ claimed ──► in line
//
// Each event type has its own places, as many as a webfilter row takes calls at a time, and its own
// line. The row of an event is in the lane of the first webfilter of its type, so that
// each webfilter has its own queue and its own queue limit. If its process dies, the row is claimed
// like any other once its lease has run out, and its webfilters are called again.
package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// Filters runs the webfilters of an event.
type Filters interface {
	// Run returns an error only when ctx ends.
	Run(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error)
}

// Queue keeps rows. Its methods do not block.
type Queue interface {
	// Enqueue stores a row, then calls stored once; see dispatch.Queue.
	Enqueue(in delivery.Insert, wanted func() bool, stored func())
	Settle(u delivery.Update) // writes the result of a lease
	Log(a delivery.Attempt)   // appends to the attempt log
	MaxBody() int             // the largest body in bytes that fits a row
}

// Ends ends rows of events. Its methods try once; false: the row no longer has the token.
type Ends interface {
	// FinishEvent replaces the row of an event by those of its deliveries, in one transaction.
	FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error)
	// End writes the end of a lease.
	End(ctx context.Context, u delivery.Update) (done bool, err error)
}

// Chains are the webfilters of events as they are now. Its methods neither block nor call back.
type Chains interface {
	// Chain returns the first webfilter row that is called for events of a type, 0 if there is
	// none, and whether one of them waits for its secrets: such events wait as rows.
	Chain(eventType string) (first int32, sealed bool)
	// TypeOf returns the type of events that a webfilter row is for, called or not; "" if none.
	TypeOf(row int32) string
}

// Options configure a Stage. DeadLetterOverflow, Full, LaneFull, Logger, Registerer are optional.
type Options struct {
	Filters Filters
	Chains  Chains
	Queue   Queue
	Ends    Ends
	// Plan returns the deliveries of an event by the rules of the moment.
	Plan     func(m *payload.Message) []delivery.Delivery
	HandOff  time.Duration // how long an event may wait for its webfilters in memory
	Deadline time.Duration // the longest that the webfilters of one event take; leases last longer
	// Concurrency is how many events of one type may be with their webfilters: no more than a
	// webfilter takes at a time, or events go past it.
	Concurrency int
	// Full reports whether a lane, or all lanes together, are at the queue limit; LaneFull leaves
	// the limits on all out. nil: never. They must not block.
	Full, LaneFull func(delivery.Lane) bool
	// DeadLetterOverflow makes a dead row without a body of a delivery beyond the queue limit of
	// its rule; otherwise the event waits as a row.
	DeadLetterOverflow bool
	Wake               func() // called when rows may be claimed: they were made, or there is room; must not block
	Logger             *slog.Logger
	Registerer         prometheus.Registerer
}

func (o *Options) validate() error {
	switch {
	case o.Filters == nil || o.Chains == nil || o.Queue == nil || o.Ends == nil || o.Plan == nil || o.Wake == nil:
		return errors.New("filters, chains, queue, ends, Plan and Wake are required")
	case o.HandOff <= 0 || o.Deadline <= 0:
		return fmt.Errorf("hand-off time %s and deadline %s must be above 0", o.HandOff, o.Deadline)
	case o.Concurrency <= 0:
		return fmt.Errorf("a concurrency of %d for events of a type: with less than 1 no webfilter is called", o.Concurrency)
	}
	return nil
}

// Stage runs the webfilters of events. It is safe for concurrent use, and a queue.Consumer.
type Stage struct {
	Options
	metrics  *metrics
	pool     *inflight.Pool
	limitLog rate.Sometimes

	mu     sync.Mutex         // before those of the pool and of cells
	epoch  *inflight.Epoch    // guarded by mu
	passes map[*pass]struct{} // guarded by mu; those that are neither rows nor ended
}

// New returns a stage. It starts nothing; Stop ends what Submit and Resend began.
func New(o Options) (*Stage, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("webfilter stage: %w", err)
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	never := func(delivery.Lane) bool { return false }
	if o.Full == nil {
		o.Full = never
	}
	if o.LaneFull == nil {
		o.LaneFull = never
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("webfilter stage: %w", err)
	}
	s := &Stage{
		Options: o, metrics: m, limitLog: rate.Sometimes{Interval: time.Minute},
		epoch: inflight.NewEpoch(), passes: make(map[*pass]struct{}),
	}
	s.pool = inflight.NewPool(inflight.PoolOptions{
		Concurrency: o.Concurrency, Longest: o.Deadline, Key: func(row *delivery.Row) string { return row.EventType },
		Run: s.runRow, Settle: o.Queue.Settle, Wake: o.Wake,
	})
	return s, nil
}

// Room implements queue.Consumer for rows of events: how many of a lane may be claimed now. There
// is none while its webfilter waits for its secrets, or right after its events found a rule at its
// queue limit; later, one row at a time tries. Rows of a webfilter that is gone may have any type.
func (s *Stage) Room(lane delivery.Lane) (room int, lease time.Duration, known bool) {
	eventType := s.Chains.TypeOf(lane.RuleID)
	if _, sealed := s.Chains.Chain(eventType); eventType != "" && sealed {
		return 0, delivery.Lease(s.Deadline), true
	}
	room, lease = s.pool.Room(lane.RuleID, eventType)
	return room, lease, true
}

// Resend implements queue.Consumer: it takes rows, leased up to until, through their webfilters.
func (s *Stage) Resend(rows []delivery.Row, until time.Time) { s.pool.Resend(rows, until) }

// Drain makes rows of all events that wait for their webfilters, and returns when none is left.
// Events that wait in memory for a lane at its queue limit are given up, as is the rest when ctx
// ends first: they are neither delivered nor released, and read again. The stage can go on.
func (s *Stage) Drain(ctx context.Context) error {
	s.mu.Lock()
	e := s.epoch
	e.Drain()
	left := slices.Collect(maps.Keys(s.passes))
	s.mu.Unlock()
	for _, p := range left {
		if !p.giveUp() {
			p.handOff(delivery.ReasonDrain)
		}
	}
	err := e.Wait(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.passes)
	e.Drop()
	s.epoch = inflight.NewEpoch()
	for p := range s.passes {
		p.timer.Stop()
		s.pool.Remove(p.entry)
	}
	clear(s.passes)
	if n > 0 && err != nil {
		return fmt.Errorf("drain: %d events wait for their filters and will be read again: %w", n, err)
	}
	return nil
}

// Stop gives rows that are in line back, and waits for the calls under way; when ctx ends it
// cancels them and returns its error. Drain comes first.
func (s *Stage) Stop(ctx context.Context) error { return s.pool.Stop(ctx) }

// limited logs, once a minute at most, what the queue limit of a lane does to events.
func (s *Stage) limited(effect string, lane delivery.Lane) {
	s.limitLog.Do(func() {
		s.Logger.Error("queue limit reached for filtered events: get the endpoint to work, or raise "+
			"WEBHOOK_DISPATCHER_QUEUE_LIMIT_RULE_ROWS, _ROWS or _BYTES", "effect", effect, rule.Table(lane.Kind).LogKey(), lane.RuleID)
	})
}
