package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// PauseStore is the part of the database that a Pauser needs.
type PauseStore interface {
	LaneRecords(ctx context.Context) (delivery.LaneRecords, error)
	MarkFailing(ctx context.Context, lane delivery.Lane, age time.Duration) error
	ClearFailing(ctx context.Context, lane delivery.Lane) error
	CountAttempts(ctx context.Context, lane delivery.Lane, age time.Duration, limit int) (int, error)
	PauseRule(ctx context.Context, lane delivery.Lane, reason delivery.Reason) (paused bool, err error)
}

// HealthLanes is what this process knows about endpoints.
type HealthLanes interface {
	Health() []delivery.LaneHealth
	// ResetHealth forgets a lane's failures.
	ResetHealth(lane delivery.Lane)
}

// PauserOptions configure a Pauser.
type PauserOptions struct {
	Store      PauseStore                    // required
	Lanes      HealthLanes                   // required
	Paused     func(lane delivery.Lane) bool // in this process's snapshot; required
	Logger     *slog.Logger                  // nil discards
	Registerer prometheus.Registerer         // nil: no metrics
}

const (
	lookEvery       = 5 * time.Second  // at this process's lanes
	compareEvery    = 30 * time.Second // with the lane records
	markAfter       = 10 * time.Minute // without a success in this process
	pauseAfter      = 24 * time.Hour
	pauseAttempts   = 10
	pauseGone       = 3               // consecutive 410 answers
	pauseUnrendered = 20              // consecutive render failures
	pauseOverruns   = 3               // of these, by a filter or transform that ran too long
	noticeTime      = 2 * time.Minute // more than a rule refresh takes to show a pause
)

// Pauser pauses rules whose endpoint accepts nothing any more or answers 410, and rules whose
// filter or transform fails for one event after another: their deliveries would be dead-lettered,
// and need not be if the rule is fixed first.
//
// Replicas may differ in which endpoints they reach. A mark in a lane's record therefore means "no
// replica has delivered since": one that fails sets it if there is none, one that delivers clears
// it. When the mark is 24 h old, a replica that still fails pauses the rule. Marks survive
// restarts. Ages are compared, not times: a mark's age is by the database's clock, the others by
// this process's.
type Pauser struct {
	options PauserOptions
	counter *prometheus.CounterVec
	known   map[delivery.Lane]*pauseState
}

// pauseState is what the pauser remembers of a lane.
type pauseState struct {
	marked bool // the record had a mark when last read, or this process set it
	// baseline is when this process saw that another had cleared the mark, zero if it never did.
	// Earlier failures no longer count.
	baseline time.Time
	asked    time.Time // when this process last paused the rule; zero once the pause is over
	seen     bool      // this process's snapshot has shown the pause
}

// NewPauser returns a pauser.
func NewPauser(o PauserOptions) (*Pauser, error) {
	if o.Store == nil || o.Lanes == nil || o.Paused == nil {
		return nil, errors.New("pauser: store, lanes and paused are required")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	p := &Pauser{options: o, known: make(map[delivery.Lane]*pauseState)}
	p.counter = metric.CounterVec("webhook_dispatcher_rules_paused_total",
		"Rules that this replica paused because nothing could be delivered, by reason.", "reason")
	for _, r := range []delivery.Reason{delivery.ReasonFailing, delivery.ReasonGone, delivery.ReasonExpression} {
		p.counter.WithLabelValues(string(r))
	}
	if err := metric.Register(o.Registerer, p.counter); err != nil {
		return nil, fmt.Errorf("pauser: %w", err)
	}
	return p, nil
}

// Run looks and compares until ctx ends.
func (p *Pauser) Run(ctx context.Context) {
	log := streakLog{logger: p.options.Logger}
	next := time.Now()
	for ctx.Err() == nil {
		err := p.look(ctx)
		if now := time.Now(); !now.Before(next) {
			err = errors.Join(err, p.compare(ctx))
			next = now.Add(compareEvery)
		}
		log.note(ctx, "pause rules whose endpoint fails", err)
		if backoff.Sleep(ctx, backoff.Jitter(lookEvery)) != nil {
			return
		}
	}
}

// look tracks pauses, and pauses rules whose endpoint is gone or whose deliveries cannot be
// rendered.
func (p *Pauser) look(ctx context.Context) error {
	now := time.Now()
	_, err := p.each(now, func(h *delivery.LaneHealth, s *pauseState) error {
		switch {
		case h.Gone >= pauseGone:
			return p.pause(ctx, h.Lane, s, delivery.ReasonGone, "its endpoint keeps answering 410 Gone: change its URL")
		case h.Overruns >= pauseOverruns:
			return p.pause(ctx, h.Lane, s, delivery.ReasonExpression, fmt.Sprintf(
				"its filter or transform ran too long for %d events, which delays all rules: change the expression", h.Overruns))
		case h.RenderFailures >= pauseUnrendered:
			return p.pause(ctx, h.Lane, s, delivery.ReasonExpression, "its filter or transform fails (see the attempts of its dead deliveries): "+
				"change the expression")
		}
		return nil
	})
	for lane, s := range p.known { // also those without health
		p.watched(lane, s, now)
	}
	return err
}

// each calls do for the rules' lanes that may need pausing, and joins its errors. It returns the
// rules' lanes that have health.
func (p *Pauser) each(now time.Time, do func(*delivery.LaneHealth, *pauseState) error) (map[delivery.Lane]bool, error) {
	var errs []error
	alive := make(map[delivery.Lane]bool)
	for _, h := range p.options.Lanes.Health() {
		if h.Lane.Kind != delivery.KindWebhook {
			continue
		}
		alive[h.Lane] = true
		if s := p.state(h.Lane); p.watched(h.Lane, s, now) {
			errs = append(errs, do(&h, s))
		}
	}
	return alive, errors.Join(errs...)
}

func (p *Pauser) state(lane delivery.Lane) *pauseState {
	s := p.known[lane]
	if s == nil {
		s = &pauseState{}
		remember(p.known, lane, s)
	}
	return s
}

// watched reports whether the lane may need pausing, which is false while it is paused. After a
// pause the lane's history no longer counts.
func (p *Pauser) watched(lane delivery.Lane, s *pauseState, now time.Time) bool {
	switch {
	case p.options.Paused(lane):
		s.seen = true
		return false
	case s.seen, !s.asked.IsZero() && now.Sub(s.asked) > noticeTime: // or was resumed unseen, or is gone
		p.options.Lanes.ResetHealth(lane)
		delete(p.known, lane)
		return false // the next look has new health
	}
	return s.asked.IsZero()
}

// compare updates marks from this process's health, and pauses rules by them.
func (p *Pauser) compare(ctx context.Context) error {
	records, err := p.options.Store.LaneRecords(ctx)
	if err != nil {
		return err
	}
	found := make(map[delivery.Lane]delivery.LaneRecord, len(records.Lanes))
	for _, r := range records.Lanes {
		found[r.Lane] = r
	}
	now := time.Now()
	alive, err := p.each(now, func(h *delivery.LaneHealth, s *pauseState) error {
		return p.compareLane(ctx, h, found[h.Lane], s, now)
	})
	for lane, s := range p.known {
		if !alive[lane] && !s.seen && s.asked.IsZero() {
			delete(p.known, lane)
		}
	}
	return err
}

func (p *Pauser) compareLane(ctx context.Context, h *delivery.LaneHealth, r delivery.LaneRecord, s *pauseState, now time.Time) error {
	if r.Failing && !h.LastTaken.IsZero() && now.Sub(h.LastTaken) < r.FailingFor {
		s.marked = false
		return p.options.Store.ClearFailing(ctx, h.Lane)
	}
	if s.marked && !r.Failing {
		s.baseline = now // another replica delivered, or an operator resumed the rule
	}
	s.marked = r.Failing
	if h.FailingSince.IsZero() {
		return nil
	}
	since := h.FailingSince
	if s.baseline.After(since) {
		since = s.baseline
	}
	if now.Sub(since) < markAfter || h.LastFailure.Before(since) {
		return nil
	}
	if !r.Failing {
		if err := p.options.Store.MarkFailing(ctx, h.Lane, now.Sub(since)); err != nil {
			return err
		}
		s.marked = true
		return nil
	}
	if r.FailingFor-now.Sub(h.LastFailure) < pauseAfter { // a day without attempts does not count
		return nil
	}
	n, err := p.options.Store.CountAttempts(ctx, h.Lane, r.FailingFor, pauseAttempts)
	if err != nil || n < pauseAttempts {
		return err
	}
	why := fmt.Sprintf("its endpoint has accepted nothing from any replica for %.0f hours: repair it", r.FailingFor.Hours())
	return p.pause(ctx, h.Lane, s, delivery.ReasonFailing, why)
}

func (p *Pauser) pause(ctx context.Context, lane delivery.Lane, s *pauseState, reason delivery.Reason, why string) error {
	paused, err := p.options.Store.PauseRule(ctx, lane, reason)
	if err != nil {
		return err
	}
	s.asked = time.Now()
	if !paused {
		return nil // another replica was first
	}
	p.counter.WithLabelValues(string(reason)).Inc()
	p.options.Logger.ErrorContext(ctx, "rule paused, its deliveries wait: fix the cause, then resume it",
		"rule_id", lane.RuleID, "reason", string(reason), "why", why,
		"resume", fmt.Sprintf("webhook-dispatcher rules set %d --resume", lane.RuleID))
	return nil
}
