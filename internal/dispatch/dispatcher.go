// Package dispatch takes deliveries from events to endpoints: a lane for each rule, a first try from memory, and a row in
// the queue for whatever does not end well and soon.
//
// It promises that an event is released exactly when each of its deliveries was taken by its endpoint or is a row, that an
// endpoint which is dead or slow takes no slot from another's lane, and that no request is ever cut short because a
// partition moved. It knows neither where events come from nor how rows are stored or requests made.
//
// The way of a flight, one delivery on its way:
//
//	               ┌──────── spill, drain, lane that may not send, paused rule ────────────┐
//	               │                                                                       ▼
//	queued ──► sending ── 2xx, or left out by the filter ──► released              row ──► released
//	  ▲            ├── failed ──► row: pending, with the next delay ──────────────────────► released
//	  │            └── hand-off ──► row: leased ──► released; the result is written when it comes
//	  │
//	  └─ at the park limit, with hold: what would become a row waits, tried or not; a drain drops it, unreleased
//	     at the park limit, with dead: the row is dead and has no body
//
// A delivery that has the event instead of a body is built at each attempt, before it is sent (attempt.go); what cannot be built is dead.
//
// A lane begins a request when all of these allow it:
//
//	rule      active; a paused one makes rows at once                                          shut.go
//	patience  the time is over that the endpoint asked for (Retry-After)                       shut.go
//	breaker   closed; or half-open, for one request: the probe                                 internal/breaker
//	places    8 at first, one more for each 2xx, half for each timeout, up to its limit; 4     pace.go
//	          after the breaker has closed
//	bucket    there is a token, where the rule has a rate                                      pace.go
//	slots     the process has one free; the last eighth is for lanes with few under way        slots.go
//
// The first three shut the lane: what waits and what comes become rows, claimed rows are given back. With the others it waits in memory.
//
// Locks, in this order: a source's mu, Dispatcher.lanesMu, a lane's mu, then those of the slots, of the sweeper's list, of the breaker. A
// lane's mu guards its queues, counts and limits, a flight's mu its phase. No lock is held while calling the sender, the queue or
// Full, and a flight's mu is never held together with a lane's.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Sender makes one request of one delivery and tells the outcome. number counts the delivery's attempts from 1.
type Sender interface {
	Send(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) delivery.Attempt
}

// Rules is the current snapshot: what a delivery's URL is read from at each attempt, and the limits of its lane once a second. Its methods
// neither block nor call back: lanes are locked meanwhile.
type Rules interface {
	// Active returns the rule of a lane, nil where it is paused, disabled, faulty or gone.
	Active(lane delivery.Lane) *rule.Rule
	// Paused tells whether the rule of a lane is paused: its deliveries are rows, and wait.
	Paused(lane delivery.Lane) bool
}

// Queue keeps deliveries durable. Its methods do not block.
type Queue interface {
	// Enqueue stores a row, then calls stored once. Right before each try to store it asks wanted, and gives the row up without a
	// call to stored where that is false.
	Enqueue(in delivery.Insert, wanted func() bool, stored func())
	// Settle writes the result of a lease.
	Settle(u delivery.Update)
	// Log appends to the attempt log.
	Log(a delivery.Attempt)
	// MaxBody returns the largest body in bytes that fits a row.
	MaxBody() int
}

// Options configure a Dispatcher.
type Options struct {
	Sender Sender
	Rules  Rules
	Queue  Queue
	// Policy is for the rules that have no retry schedule of their own; the others share its randomness.
	Policy *delivery.Policy
	// HandOff is how long a first try may take before its delivery becomes a row.
	HandOff time.Duration
	// Timeout is the longest that one request takes, where a rule has no timeout of its own; leases are made to last longer.
	Timeout time.Duration
	// EndpointConcurrency caps requests in flight to one rule's endpoint, Concurrency those of the process.
	EndpointConcurrency int
	Concurrency         int
	// EndpointRate caps the requests to one rule's endpoint that begin in a second; 0: no limit. A rule's own limits go before both.
	EndpointRate float64
	// Full tells whether as many rows of a lane wait as may; nil: never. It must not block.
	Full func(delivery.Lane) bool
	// DeadLetterOverflow makes a dead row without a body of what would be one row too many; else it is held in memory, unreleased.
	DeadLetterOverflow bool
	// PerRule adds metrics that have a series for each rule.
	PerRule bool
	// LogAll logs every attempt, not only those that failed or belong to a row.
	LogAll bool
	// RoomWanted is called when a lane that has been claimed for has got room again. It must not block.
	RoomWanted func()
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (o *Options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("dispatcher: "+format, args...))
		}
	}
	check(o.Sender != nil && o.Rules != nil && o.Queue != nil && o.Policy != nil, "sender, rules, queue and policy are required")
	check(o.HandOff > 0, "hand-off time is %v: it must be above 0, or every delivery becomes a row", o.HandOff)
	check(o.Timeout > 0, "timeout is %v: it must be above 0", o.Timeout)
	check(o.EndpointConcurrency > 0, "endpoint concurrency is %d: with less than 1 nothing is sent", o.EndpointConcurrency)
	check(o.EndpointRate >= 0, "endpoint rate is %v: write 0 for no limit, or what may begin in a second", o.EndpointRate)
	check(o.Concurrency > 0, "concurrency is %d: with less than 1 nothing is sent", o.Concurrency)
	return errors.Join(errs...)
}

// Dispatcher sends deliveries.
type Dispatcher struct {
	Options
	metrics *metrics

	ctx      context.Context // of requests; ends only when Close gives up on them
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	stop     chan struct{} // ends the sweeper
	stopOnce sync.Once
	closing  atomic.Bool

	slots slots
	epoch atomic.Pointer[epoch]

	lanesMu sync.RWMutex
	lanes   map[delivery.Lane]*lane

	listMu sync.Mutex
	list   []*lane // those in which something may be on its way

	sourcesMu sync.Mutex
	sources   map[Source]*source
}

// New starts a dispatcher. Close must be called.
func New(o Options) (*Dispatcher, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RoomWanted == nil {
		o.RoomWanted = func() {}
	}
	d := &Dispatcher{
		Options: o, metrics: newMetrics(o.Registerer, o.PerRule), stop: make(chan struct{}),
		slots: newSlots(o.Concurrency, o.EndpointConcurrency),
		lanes: make(map[delivery.Lane]*lane), sources: make(map[Source]*source),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.epoch.Store(newEpoch())
	d.workers.Go(d.sweep)
	return d, nil
}

// Close returns claimed rows that wait, and waits for the requests under way until ctx ends; then it cancels them. Their
// leases run out, so nothing is lost by that. Drain comes first; nothing may be dispatched afterwards.
func (d *Dispatcher) Close(ctx context.Context) error {
	d.closing.Store(true)
	for _, l := range d.allLanes() {
		for _, f := range l.end() {
			d.Queue.Settle(delivery.Return(f.row, 0))
		}
	}
	d.stopOnce.Do(func() { close(d.stop) })
	ended := make(chan struct{})
	go func() {
		d.workers.Wait()
		close(ended)
	}()
	defer d.cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		d.cancel()
		<-ended
		return fmt.Errorf("waiting for requests under way: %w", ctx.Err())
	}
}

// Source names the partition that an event came from.
type Source struct {
	Topic     string
	Partition int
}

// Dispatch takes the deliveries of one event over and calls release once all of them have been taken by their endpoints or are
// rows; at once where there are none. It never blocks: what may be in memory is bounded by the windows of the partitions.
func (d *Dispatcher) Dispatch(from Source, deliveries []delivery.Delivery, release func()) {
	if len(deliveries) == 0 {
		release()
		return
	}
	src := d.source(from)
	o := &origin{src: src, epoch: d.epoch.Load(), release: release}
	o.left.Store(int32(len(deliveries)))
	o.epoch.left.Add(1)
	flights := make([]flight, len(deliveries))
	now := time.Now()
	src.mu.Lock()
	for i := range deliveries {
		f := &flights[i]
		f.delivery, f.origin = &deliveries[i], o
		f.lane = src.lane(d, f.delivery.Lane(), now)
	}
	src.mu.Unlock()
	for i := range flights {
		flights[i].lane.push(&flights[i], now)
	}
}

// Room implements the claimer's view of the lanes: how many due rows a lane can take now. Claimed rows go before first tries, but
// while first tries wait a lane takes only a quarter of its places at a time, so that neither starves the other. Twice
// the places at most are held, so that the last waits no longer than its lease allows for (delivery.Lease). A lane that may not send
// takes none, one whose breaker is half-open one at a time, and one with a rate no more than it can begin in a quarter of the lease.
func (d *Dispatcher) Room(key delivery.Lane) (room int, lease time.Duration, known bool) {
	if d.closing.Load() {
		return 0, 0, true
	}
	if d.Rules.Active(key) == nil {
		return 0, 0, false
	}
	room, lease = d.lane(key).room(time.Now())
	return room, lease, true
}

// Resend takes claimed rows over. Their leases run out at until.
func (d *Dispatcher) Resend(rows []delivery.Row, until time.Time) {
	now := time.Now()
	for i := range rows {
		row := &rows[i]
		d.lane(row.Lane()).pushClaimed(&flight{delivery: &row.Delivery, row: row, until: until}, now)
	}
}

// Health returns what is known of the endpoints of the lanes that had attempts.
func (d *Dispatcher) Health() []delivery.LaneHealth {
	var all []delivery.LaneHealth
	for _, l := range d.allLanes() {
		l.mu.Lock()
		if r := d.Rules.Active(l.key); r != nil {
			l.health.Update(goodRuns(r.Filter), goodRuns(r.Transform))
		}
		if l.health.Tried() {
			all = append(all, l.health)
		}
		l.mu.Unlock()
	}
	return all
}

// goodRuns returns the counter of an expression's good runs, nil without an expression.
func goodRuns(p *expression.Program) *atomic.Uint64 {
	if p == nil {
		return nil
	}
	return &p.Good
}

// ResetHealth forgets the failures of a lane, as after its rule was paused for them and resumed. When its endpoint last took a delivery
// stays known.
func (d *Dispatcher) ResetHealth(key delivery.Lane) {
	d.lanesMu.RLock()
	l := d.lanes[key]
	d.lanesMu.RUnlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = delivery.LaneHealth{Lane: key, LastTaken: l.health.LastTaken}
}

func (d *Dispatcher) lane(key delivery.Lane) *lane {
	d.lanesMu.RLock()
	l := d.lanes[key]
	d.lanesMu.RUnlock()
	if l != nil {
		return l
	}
	d.lanesMu.Lock()
	defer d.lanesMu.Unlock()
	if l = d.lanes[key]; l == nil {
		l = newLane(d, key)
		d.lanes[key] = l
	}
	return l
}

func (d *Dispatcher) allLanes() []*lane {
	d.lanesMu.RLock()
	defer d.lanesMu.RUnlock()
	return slices.Collect(maps.Values(d.lanes))
}
