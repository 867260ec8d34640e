// Package dispatch takes deliveries from events to endpoints: a lane (a queue in memory) for each
// rule, a first try from memory, and a row in the database for each delivery that does not end well
// and soon.
//
// It promises that an event is released exactly when each of its deliveries was taken by its
// endpoint or is a row, that an endpoint which is dead or slow takes no slot from another's lane,
// and that no request is ever cut short because a partition moved. It knows neither where events
// come from nor how rows are stored or requests made.
//
// The life of a flight, one delivery in flight (the hand-off is drawn in package inflight):
//
//	               ┌──────── spill, drain, lane that may not send, paused rule ────────────┐
//	               │                                                                       ▼
//	in line ──► sending ── 2xx, or left out by the filter ──► released             row ──► released
//	  ▲            ├── failed ──► row: pending, with the next delay ──────────────────────► released
//	  │            └── hand-off ──► row: leased ──► released; the result is written when it comes
//	  │
//	  └─ at the queue limit, with hold: what would become a row waits in memory, tried or not; a drain
//	     gives it up, unreleased
//	     at the queue limit, with dead: it becomes a dead row without a body
//
// A delivery that holds the event instead of a body is rendered at each attempt, before it is sent
// (attempt.go); if that fails it is dead.
//
// A lane begins a request when all of these allow it:
//
//	rule      active; a paused one makes rows at once                                     barrier.go
//	wait      the time that the endpoint asked for (Retry-After) is over                  barrier.go
//	breaker   closed; or half-open, for one request: the probe                            internal/breaker
//	limit     adaptive: 8 at first, one more for each 2xx, half for each timeout, up to   limit.go
//	          the rule's concurrency; 4 after the breaker has closed
//	bucket    there is a token, if the rule has a rate                                    limit.go
//	slots     the process has one free; the last eighth is for lanes with few under way   slots.go
//
// The first three close the lane: first tries become rows, claimed rows are given back. With the
// others they wait in memory.
//
// Locks, in this order: a source's mu, Dispatcher.lanesMu, a lane's mu, then those of the slots, of
// the sweeper's list, of the breaker, of a flight's cell. A lane's mu guards its line, counts and
// limits. No lock is held while calling the sender, the queue or Full.
package dispatch

import (
	"cmp"
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
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Sender makes one request of one delivery and returns the outcome. number counts the delivery's
// attempts from 1.
type Sender interface {
	Send(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) delivery.Attempt
}

// Rules is the current snapshot: a delivery's URL is read from it at each attempt, the limits of
// its lane once a second. Its methods neither block nor call back: lanes are locked meanwhile.
type Rules interface {
	// Active returns the rule of a lane, nil if it is paused, disabled, faulty or gone.
	Active(lane delivery.Lane) *rule.Rule
	// Paused reports whether the rule of a lane is paused: its deliveries are rows, and wait.
	Paused(lane delivery.Lane) bool
}

// Queue keeps deliveries durable. Its methods do not block.
type Queue interface {
	// Enqueue stores a row, then calls stored once. Right before each try to store it asks wanted,
	// and gives the row up without a call to stored if that is false.
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
	// Policy is for rules that have no retry schedule of their own; the others share its
	// randomness.
	Policy *delivery.Policy
	// HandOff is how long a first try may take before its delivery becomes a row.
	HandOff time.Duration
	// Timeout is the longest that one request takes, unless a rule has a timeout of its own; leases
	// are made to last longer.
	Timeout time.Duration
	// EndpointConcurrency caps requests under way to one rule's endpoint, Concurrency those of the
	// process.
	EndpointConcurrency int
	Concurrency         int
	// EndpointRate caps the requests to one rule's endpoint that begin in a second; 0: no limit. A
	// rule's own limits go before both.
	EndpointRate float64
	// Full reports whether a lane is at its queue limit; nil: never. It must not block.
	Full func(delivery.Lane) bool
	// DeadLetterOverflow makes a dead row without a body of a delivery beyond the queue limit;
	// otherwise it waits in memory, unreleased.
	DeadLetterOverflow bool
	// PerRule adds metrics that have a series for each rule.
	PerRule bool
	// LogAll logs every attempt, not only those that failed or belong to a row.
	LogAll bool
	// RoomWanted is called when a lane that has been claimed for has room again. It must not block.
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
	check(o.EndpointRate >= 0, "endpoint rate is %v: write 0 for no limit, or how many may begin in a second", o.EndpointRate)
	check(o.Concurrency > 0, "concurrency is %d: with less than 1 nothing is sent", o.Concurrency)
	return errors.Join(errs...)
}

// Dispatcher sends deliveries.
type Dispatcher struct {
	Options
	metrics *metrics

	workers  *inflight.Workers
	sweeping chan struct{} // closed to end the sweeper
	stopOnce sync.Once
	stopping atomic.Bool

	slots slots
	epoch atomic.Pointer[inflight.Epoch]

	lanesMu sync.RWMutex
	lanes   map[delivery.Lane]*lane

	listMu sync.Mutex
	list   []*lane // those that may have deliveries in flight

	sourcesMu sync.Mutex
	sources   map[Source]*source
}

// New returns a dispatcher. It starts nothing: Start comes before the first Dispatch or Resend. Its
// errors are of Options or of registering metrics.
func New(o Options) (*Dispatcher, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.RoomWanted == nil {
		o.RoomWanted = func() {}
	}
	m, err := newMetrics(o.Registerer, o.PerRule)
	if err != nil {
		return nil, fmt.Errorf("dispatcher: %w", err)
	}
	d := &Dispatcher{
		Options: o, metrics: m, workers: inflight.NewWorkers(), sweeping: make(chan struct{}),
		slots: newSlots(o.Concurrency, o.EndpointConcurrency),
		lanes: make(map[delivery.Lane]*lane), sources: make(map[Source]*source),
	}
	d.epoch.Store(inflight.NewEpoch())
	return d, nil
}

// Start starts the sweeper, which hands off slow first tries among others. It must be called once.
func (d *Dispatcher) Start() { d.workers.Go(d.sweep) }

// Stop gives claimed rows back that wait, and waits for the requests under way. When ctx ends first
// it cancels them and returns ctx's error: their leases run out, so nothing is lost. Drain comes
// first; nothing may be dispatched afterwards. Stop may be called more than once, and without
// Start.
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.stopping.Store(true)
	for _, l := range d.allLanes() {
		for _, f := range l.end() {
			d.Queue.Settle(delivery.Return(f.row, 0))
		}
	}
	d.stopOnce.Do(func() { close(d.sweeping) })
	return d.workers.Stop(ctx)
}

// Source names the partition that an event came from.
type Source struct {
	Topic     string
	Partition int
}

// Dispatch takes the deliveries of one event over and calls release once all of them have been
// taken by their endpoints or are rows; at once if there are none. It never blocks: the windows of
// the partitions bound what is in memory.
func (d *Dispatcher) Dispatch(from Source, deliveries []delivery.Delivery, release func()) {
	if len(deliveries) == 0 {
		release()
		return
	}
	src := d.source(from)
	o := &origin{src: src, epoch: d.epoch.Load(), release: release}
	o.left.Store(int32(len(deliveries)))
	o.epoch.Add()
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

// Room implements queue.Consumer: how many due rows a lane can take now. Claimed rows go before
// first tries, but while first tries wait a lane takes only a quarter of its limit at a time, so
// that neither starves the other. It holds twice the limit at most, so that the last row waits no
// longer than its lease allows for (delivery.Lease). A lane that may not send takes none, one whose
// breaker is half-open one at a time, and one with a rate no more than it can begin in a quarter of
// the lease.
func (d *Dispatcher) Room(key delivery.Lane) (room int, lease time.Duration, known bool) {
	if d.stopping.Load() {
		return 0, 0, true
	}
	if d.Rules.Active(key) == nil {
		return 0, 0, false
	}
	room, lease = d.lane(key).room(time.Now())
	return room, lease, true
}

// Resend implements queue.Consumer: it takes claimed rows over. Their leases run out at until.
func (d *Dispatcher) Resend(rows []delivery.Row, until time.Time) {
	now := time.Now()
	for i := range rows {
		f := &flight{delivery: &rows[i].Delivery, row: &rows[i]}
		f.until = until
		d.lane(f.row.Lane()).pushClaimed(f, now)
	}
}

// Health returns the health of the endpoints of the lanes that had attempts.
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

// ResetHealth forgets the failures of a lane, as after its rule was paused for them and resumed. It
// keeps when the endpoint last took a delivery.
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
