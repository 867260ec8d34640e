// Package intake takes records over from the bus: it decodes a record, matches it against the rules
// of the moment, has its webfilters called and hands its deliveries to the dispatcher.
//
// It promises that a record is released (bus.Record.Done) only once it is settled: no rule wants
// it, its webfilters halted it, it is kept because it cannot be read, or each of its deliveries was
// taken by its endpoint or is a row. It does not know how records are fetched, rows stored or
// requests made.
//
//	record ──► envelope ──► rules want it? ──► message ──► webfilters ──► deliveries ──► dispatcher
//	              │              │ no             │            │ halted                     │
//	              ▼              ▼                ▼            ▼                            ▼
//	          kept as undecodable, or released at once                              released with the last
package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// Rules are the rules of the moment.
type Rules interface {
	Current() *rule.Snapshot
	// Fresh returns a snapshot read at since or later. It returns an error only when ctx ends.
	Fresh(ctx context.Context, since time.Time) (*rule.Snapshot, error)
}

// Filters runs the webfilters of an event; see stage.Stage.
type Filters interface {
	Submit(m *payload.Message, deliver func(*payload.Message), release func())
	Drain(ctx context.Context) error
}

// Dispatcher sends deliveries; see dispatch.Dispatcher.
type Dispatcher interface {
	Dispatch(from dispatch.Source, deliveries []delivery.Delivery, release func())
	Backpressure(from dispatch.Source)
	Drain(ctx context.Context) error
}

// Store keeps records that cannot be read.
type Store interface {
	InsertUndecodable(ctx context.Context, u store.Undecodable) error
}

// Options configure an Intake. Logger and Registerer may be nil.
type Options struct {
	Decoder    decode.Decoder
	Rules      Rules
	Filters    Filters
	Dispatcher Dispatcher
	Store      Store
	// Plan returns the deliveries of an event by the rules of the moment. Decoding and webfilters
	// may take a while; rules never get older, so these know at least as much as those that
	// matched.
	Plan func(m *payload.Message) []delivery.Delivery
	// Everything is set if all topics are read: records that are no events are expected then.
	Everything bool
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Intake implements bus.Handler.
type Intake struct {
	Options
	metrics *metrics

	// stuck is why an undecodable record cannot be kept, nil when none waits for that.
	stuck atomic.Pointer[error]

	// A topic full of records that cannot be read must not fill the log as well.
	keepFailures rate.Sometimes
	refusals     map[decode.Reason]*rate.Sometimes // one for each reason; the map does not change
}

// logEvery is how often the same message about records is logged at most.
const logEvery = time.Minute

// New returns an intake. Its errors are of Options or of registering metrics.
func New(o Options) (*Intake, error) {
	if o.Decoder == nil || o.Rules == nil || o.Filters == nil || o.Dispatcher == nil || o.Store == nil || o.Plan == nil {
		return nil, errors.New("intake: decoder, rules, filters, dispatcher, store and plan are required")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	in := &Intake{
		Options: o, metrics: m, keepFailures: rate.Sometimes{Interval: logEvery},
		refusals: make(map[decode.Reason]*rate.Sometimes),
	}
	for _, reason := range decode.Reasons() {
		in.refusals[reason] = &rate.Sometimes{Interval: logEvery}
	}
	return in, nil
}

// Ready returns why an undecodable record cannot be kept, while one waits for that.
func (in *Intake) Ready(context.Context) error {
	if err := in.stuck.Load(); err != nil {
		return *err
	}
	return nil
}

// handlersTime is how long the handlers of one event in an LMS process may take, from the event
// bus's, which may be the first, to the plugin's: that long after an event can be read here, the
// plugin has looked for rows to send it to.
const handlersTime = time.Second

// Handle takes a record over. It blocks while the registry is away; for an undecodable record, or
// one of a contended type, also while the database is: the partition waits.
func (in *Intake) Handle(ctx context.Context, rec *bus.Record) {
	ev, err := in.Decoder.Envelope(rec)
	if err != nil {
		in.refuse(ctx, rec, err)
		return
	}
	rules := in.Rules.Current()
	if rules.Contended(ev.Type) {
		if rules, err = in.Rules.Fresh(ctx, rec.Fetched.Add(handlersTime)); err != nil {
			return // ctx has ended: the record stays
		}
	}
	if !rules.Wants(ev.Type, ev.Time, rec.Time) {
		in.metrics.unmatched.Inc()
		rec.Done()
		return
	}
	msg, err := in.Decoder.Message(ctx, rec, ev)
	if err != nil {
		in.refuse(ctx, rec, err)
		return
	}
	in.metrics.matched.Inc()
	deliver := func(m *payload.Message) {
		deliveries := in.Plan(m)
		rec.Shrink(plan.MemoryCost(deliveries))
		in.Dispatcher.Dispatch(dispatch.Source{Topic: rec.Topic, Partition: rec.Partition}, deliveries, rec.Done)
	}
	if len(in.Rules.Current().Webfilters(ev.Type)) > 0 {
		in.Filters.Submit(msg, deliver, rec.Done)
		return
	}
	deliver(msg)
}

// refuse keeps a record that can never be read, and releases it. Any other error means that ctx has
// ended: the record stays.
func (in *Intake) refuse(ctx context.Context, rec *bus.Record, err error) {
	bad, ok := decode.AsUndecodable(err)
	if !ok {
		return
	}
	if in.Everything && bad.Reason == decode.ReasonNoType {
		in.metrics.untyped.Inc()
		rec.Done()
		return
	}
	u := store.Undecodable{
		Topic: rec.Topic, Partition: int32(rec.Partition), Offset: int64(rec.Position), Time: rec.Time, Reason: string(bad.Reason),
		Headers: make([]store.RecordHeader, len(rec.Headers)), Key: rec.Key, Value: rec.Value,
	}
	for i, h := range rec.Headers {
		u.Headers[i] = store.RecordHeader{Key: h.Key, Value: h.Value}
	}
	if !in.keep(ctx, u) {
		return
	}
	in.metrics.refused.Inc()
	in.metrics.undecodable.WithLabelValues(string(bad.Reason)).Inc()
	if quiet := in.refusals[bad.Reason]; quiet != nil {
		quiet.Do(func() {
			in.Logger.ErrorContext(ctx, "undecodable record kept for inspection; others for the same reason are counted only", "topic", rec.Topic,
				"partition", rec.Partition, "offset", rec.Position, "reason", string(bad.Reason), "detail", bad.Detail)
		})
	}
	rec.Done()
}

// keep stores a record. It tries until that succeeds, and returns false if ctx ends first.
func (in *Intake) keep(ctx context.Context, u store.Undecodable) bool {
	defer in.stuck.Store(nil) // it is kept by then, or its partition has another owner
	var tries backoff.Backoff
	for {
		err := in.Store.InsertUndecodable(ctx, u)
		if err == nil {
			return true
		}
		in.stuck.Store(&err)
		if ctx.Err() != nil {
			return false
		}
		in.keepFailures.Do(func() {
			in.Logger.WarnContext(ctx, "cannot keep an undecodable record; its partition waits", "error", err)
		})
		if tries.Wait(ctx) != nil {
			return false
		}
	}
}

// Backpressure implements bus.Handler.
func (in *Intake) Backpressure(topic string, partition int) {
	in.Dispatcher.Backpressure(dispatch.Source{Topic: topic, Partition: partition})
}

// Drain implements bus.Handler. Events that wait for their webfilters come first: some become
// deliveries meanwhile.
func (in *Intake) Drain(ctx context.Context) error {
	return errors.Join(in.Filters.Drain(ctx), in.Dispatcher.Drain(ctx))
}
