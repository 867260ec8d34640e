// Package intake handles records of the bus: it decodes a record, matches it against the current
// rules, runs its webfilters and passes its deliveries to the dispatcher.
//
// A record is released (bus.Record.Done) only once no rule wants it, a webfilter halted it, it is
// kept as undecodable, or each of its deliveries was accepted by its endpoint or is a row.
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

// Rules are the current rules.
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

// Store keeps undecodable records.
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
	// Plan returns the deliveries of an event by the current rules, which are at least as new as
	// those that matched.
	Plan func(m *payload.Message) []delivery.Delivery
	// Everything: all topics are read, so records that are not events are expected.
	Everything bool
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Intake implements bus.Handler.
type Intake struct {
	Options
	metrics *metrics

	// stuck is why an undecodable record cannot be kept; nil if none waits.
	stuck atomic.Pointer[error]

	// Log lines.
	keepFailures rate.Sometimes
	refusals     map[decode.Reason]*rate.Sometimes // by reason; the map does not change
}

// logEvery is the minimum interval between equal log lines.
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

// Ready returns why an undecodable record that waits to be kept cannot be.
func (in *Intake) Ready(context.Context) error {
	if err := in.stuck.Load(); err != nil {
		return *err
	}
	return nil
}

// handlersTime bounds the time from the event bus's handler of an event in an LMS process, which
// may run first, to the plugin's: by then the plugin has looked up the rows to send it to.
const handlersTime = time.Second

// Handle handles a record. It blocks while the registry is unavailable and, for undecodable records
// and contended types, while the database is: the partition waits.
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

// refuse keeps and releases an undecodable record. Any other error means that ctx has ended: the
// record stays.
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
		Headers: rec.Headers, Key: rec.Key, Value: rec.Value,
	}
	if !in.keep(ctx, u) {
		return
	}
	in.metrics.refused.Inc()
	in.metrics.undecodable.WithLabelValues(string(bad.Reason)).Inc()
	if lines := in.refusals[bad.Reason]; lines != nil {
		lines.Do(func() {
			in.Logger.ErrorContext(ctx, "undecodable record kept; further ones for this reason are only counted for a minute", "topic", rec.Topic,
				"partition", rec.Partition, "offset", rec.Position, "reason", string(bad.Reason), "detail", bad.Detail)
		})
	}
	rec.Done()
}

// keep stores a record, with retries. It returns false if ctx ends first.
func (in *Intake) keep(ctx context.Context, u store.Undecodable) bool {
	defer in.stuck.Store(nil) // it is kept, or its partition has another owner
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
			in.Logger.WarnContext(ctx, "cannot store an undecodable record, retrying; its partition waits", "error", err)
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

// Drain implements bus.Handler. Webfilters come first, as they still make deliveries.
func (in *Intake) Drain(ctx context.Context) error {
	return errors.Join(in.Filters.Drain(ctx), in.Dispatcher.Drain(ctx))
}
