package app

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter/stage"
)

// intake is where the stages meet: it decodes a record, matches it against the rules of the moment, has its webfilters called and
// hands its deliveries to the lanes. It implements bus.Handler.
type intake struct {
	decoder    *decode.Decoder
	rules      *rule.Refresher
	filters    *stage.Stage
	dispatcher *dispatch.Dispatcher
	plan       func(m *payload.Message) []delivery.Delivery
	keep       func(ctx context.Context, u store.Undecodable) error
	// everything is set where the topics are "*": records that are no events are expected then.
	everything bool
	logger     *slog.Logger
	metrics    *intakeMetrics

	stuck atomic.Pointer[error] // why an undecodable record cannot be kept, nil when none waits for that

	mu     sync.Mutex
	logged map[string]time.Time // when a message last stood in the log, by what it is about
}

// Ready tells why an undecodable record cannot be kept, while one waits for that.
func (in *intake) Ready(context.Context) error {
	if err := in.stuck.Load(); err != nil {
		return *err
	}
	return nil
}

// logEvery is how often the same message about records is logged at most: a topic full of records that cannot be read must not
// fill the log as well.
const logEvery = time.Minute

// quiet tells whether a message about what was logged a moment ago. What is one of a few constants.
func (in *intake) quiet(what string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := time.Now()
	if last, ok := in.logged[what]; ok && now.Sub(last) < logEvery {
		return true
	}
	if in.logged == nil {
		in.logged = make(map[string]time.Time)
	}
	in.logged[what] = now
	return false
}

// handlersTime is how long the handlers of one event in an LMS process may take, from the event bus's, which may be the first, to the
// plugin's: so long after an event can be read here the plugin has looked for rows to send it to.
const handlersTime = time.Second

// Handle takes a record over. It blocks while the registry, or for an undecodable record or one of a contended type the database, is
// away: the partition holds.
func (in *intake) Handle(ctx context.Context, rec *bus.Record) {
	ev, err := in.decoder.Envelope(rec)
	if err != nil {
		in.refuse(ctx, rec, err)
		return
	}
	rules := in.rules.Current()
	if rules.Contended(ev.Type) {
		if rules, err = in.rules.Fresh(ctx, rec.Fetched.Add(handlersTime)); err != nil {
			return // ctx has ended: the record stays
		}
	}
	if !rules.Wants(ev.Type, ev.Time, rec.Time) {
		in.metrics.unmatched.Inc()
		rec.Done()
		return
	}
	msg, err := in.decoder.Message(ctx, rec, ev)
	if err != nil {
		in.refuse(ctx, rec, err)
		return
	}
	in.metrics.matched.Inc()
	// The rules are looked up once more: decoding, or filters, may have taken a while. They never get older, so these know at least as much.
	deliver := func(m *payload.Message) {
		deliveries := in.plan(m)
		rec.Unload(dispatch.MemoryCost(deliveries))
		in.dispatcher.Dispatch(dispatch.Source{Topic: rec.Topic, Partition: rec.Partition}, deliveries, rec.Done)
	}
	if len(in.rules.Current().Webfilters(ev.Type)) > 0 {
		in.filters.Submit(msg, deliver, rec.Done)
		return
	}
	deliver(msg)
}

// refuse keeps a record that can never be read, and releases it. Any other error means that ctx has ended: the record stays.
func (in *intake) refuse(ctx context.Context, rec *bus.Record, err error) {
	bad, ok := decode.AsUndecodable(err)
	if !ok {
		return
	}
	if in.everything && bad.Reason == decode.ReasonNoType {
		in.metrics.events.WithLabelValues("untyped").Inc()
		rec.Done()
		return
	}
	u := store.Undecodable{
		Topic: rec.Topic, Partition: int32(rec.Partition), Offset: rec.Offset, Time: rec.Time, Reason: string(bad.Reason),
		Headers: make([]store.RecordHeader, len(rec.Headers)), Key: rec.Key, Value: rec.Value,
	}
	for i, h := range rec.Headers {
		u.Headers[i] = store.RecordHeader{Key: h.Key, Value: h.Value}
	}
	defer in.stuck.Store(nil) // by then it is kept, or the partition somebody else's
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := in.keep(ctx, u)
		if err == nil {
			break
		}
		in.stuck.Store(&err)
		if ctx.Err() != nil {
			return
		}
		if !in.quiet("keep") {
			in.logger.WarnContext(ctx, "cannot keep an undecodable record; its partition waits", "error", err)
		}
		select {
		case <-time.After(time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))):
		case <-ctx.Done():
			return
		}
	}
	in.metrics.events.WithLabelValues("undecodable").Inc()
	in.metrics.undecodable.WithLabelValues(string(bad.Reason)).Inc()
	if !in.quiet(string(bad.Reason)) {
		in.logger.ErrorContext(ctx, "undecodable record kept for inspection; others for the same reason are counted only", "topic", rec.Topic,
			"partition", rec.Partition, "offset", rec.Offset, "reason", string(bad.Reason), "detail", bad.Detail)
	}
	rec.Done()
}

// Pressed implements bus.Handler.
func (in *intake) Pressed(topic string, partition int) {
	in.dispatcher.Pressed(dispatch.Source{Topic: topic, Partition: partition})
}

// Drain implements bus.Handler. Events that wait for their filters come first: some become deliveries meanwhile.
func (in *intake) Drain(ctx context.Context) error {
	return errors.Join(in.filters.Drain(ctx), in.dispatcher.Drain(ctx))
}

type intakeMetrics struct {
	events      *prometheus.CounterVec
	undecodable *prometheus.CounterVec

	matched, unmatched prometheus.Counter // of events
}

func newIntakeMetrics(reg prometheus.Registerer) *intakeMetrics {
	m := &intakeMetrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_dispatcher_events_total",
			Help: "Records read, by what they were: matched by a rule, unmatched, undecodable, or (under *) untyped and so no event.",
		}, []string{"result"}),
		undecodable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_dispatcher_undecodable_total", Help: "Records that can never be read and are kept as rows, by reason.",
		}, []string{"reason"}),
	}
	for _, result := range []string{"matched", "unmatched", "undecodable", "untyped"} {
		m.events.WithLabelValues(result)
	}
	for _, reason := range decode.Reasons() {
		m.undecodable.WithLabelValues(string(reason))
	}
	m.matched, m.unmatched = m.events.WithLabelValues("matched"), m.events.WithLabelValues("unmatched")
	reg.MustRegister(m.events, m.undecodable)
	return m
}
