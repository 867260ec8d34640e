package queue

import (
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

// PauseStore is the database as the pauser needs it.
type PauseStore interface {
	LaneRecords(ctx context.Context) (delivery.LaneRecords, error)
	// MarkFailing marks a lane whose endpoint has taken nothing since age ago; an earlier mark stays.
	MarkFailing(ctx context.Context, lane delivery.Lane, age time.Duration) error
	ClearFailing(ctx context.Context, lane delivery.Lane) error
	// CountAttempts counts the logged attempts of the last age and stops at limit.
	CountAttempts(ctx context.Context, lane delivery.Lane, age time.Duration, limit int) (int, error)
	// PauseRule tells whether it paused the rule: not where it is paused already or gone.
	PauseRule(ctx context.Context, lane delivery.Lane, reason delivery.Reason) (paused bool, err error)
}

// HealthLanes is what this process knows of endpoints.
type HealthLanes interface {
	Health() []delivery.LaneHealth
	// ResetHealth forgets what is known of a lane.
	ResetHealth(lane delivery.Lane)
}

// PauserOptions are what a pauser needs.
type PauserOptions struct {
	Store PauseStore  // required
	Lanes HealthLanes // required
	// Paused tells whether the rule of a lane is paused, as the rules of this process have it. Required.
	Paused     func(lane delivery.Lane) bool
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

const (
	lookEvery    = 5 * time.Second  // at memory alone
	compareEvery = 30 * time.Second // with the lane records
	// markAfter is how long an endpoint must have taken nothing from this process before it says so to the others.
	markAfter       = 10 * time.Minute
	pauseAfter      = 24 * time.Hour
	pauseAttempts   = 10
	pauseGone       = 3  // answers 410 in a row
	pauseUnrendered = 20 // deliveries in a row that no body could be made for
	pauseOverruns   = 3  // of them, those whose filter or transform ran too long
	// noticeTime is more than the rules of this process need to notice a pause.
	noticeTime = 2 * time.Minute
)

// Pauser pauses rules whose endpoint takes nothing any more, or says that it is gone for good, and those whose filter or transform
// fails for one event after another: each such delivery ends dead, and would not were the rule mended first.
//
// An endpoint that this process cannot reach may answer another, so a mark in the lane records stands for "no replica has delivered
// since": any that fails sets it where there is none, and any that delivers clears it. Once it is 24 h old, a replica that still fails
// pauses the rule. The mark outlives restarts. All times are compared as ages: that of the mark is by the database's clock, the others
// are by this process's.
type Pauser struct {
	store   PauseStore
	lanes   HealthLanes
	paused  func(lane delivery.Lane) bool
	logger  *slog.Logger
	counter *prometheus.CounterVec
	known   map[delivery.Lane]*pauseState
}

// pauseState is what the pauser remembers of a lane.
type pauseState struct {
	// marked: the record had a mark when it was last read, or this process set it.
	marked bool
	// baseline is when this process learnt that another had cleared the mark; zero if it never did. What failed before no longer counts.
	baseline time.Time
	// asked is when this process last had the rule paused; zero before, and once the pause has ended.
	asked time.Time
	// seen: the rule has been paused in this process's rules since the last reset.
	seen bool
}

// NewPauser returns a pauser.
func NewPauser(o PauserOptions) (*Pauser, error) {
	if o.Store == nil || o.Lanes == nil || o.Paused == nil {
		return nil, errors.New("pauser: store, lanes and paused are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pauser{store: o.Store, lanes: o.Lanes, paused: o.Paused, logger: o.Logger, known: make(map[delivery.Lane]*pauseState)}
	p.counter = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_dispatcher_rules_paused_total", Help: "Rules that this replica paused because nothing can be delivered, by why.",
	}, []string{"reason"})
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
	log := streakLog{logger: p.logger}
	next := time.Now()
	for ctx.Err() == nil {
		err := p.look(ctx)
		if now := time.Now(); !now.Before(next) {
			err = errors.Join(err, p.compare(ctx)) // a rule that cannot be paused keeps no mark from being cleared
			next = now.Add(compareEvery)
		}
		log.note(ctx, "pause rules whose endpoint fails", err)
		if backoff.Sleep(ctx, backoff.Jitter(lookEvery)) != nil {
			return
		}
	}
}

// look follows pauses from begin to end, and pauses at once what is gone or cannot be built.
func (p *Pauser) look(ctx context.Context) error {
	now := time.Now()
	var errs []error
	for _, h := range p.lanes.Health() {
		if h.Lane.Kind != delivery.KindWebhook {
			continue
		}
		s := p.state(h.Lane)
		if !p.watched(h.Lane, s, now) {
			continue
		}
		var err error
		switch {
		case h.Gone >= pauseGone:
			err = p.pause(ctx, h.Lane, s, delivery.ReasonGone, "its endpoint answers 410, gone, for good: give it another URL")
		case h.Overruns >= pauseOverruns:
			err = p.pause(ctx, h.Lane, s, delivery.ReasonExpression, fmt.Sprintf(
				"its filter or transform ran too long for %d events, and delays those of all rules: change the expression",
				h.Overruns))
		case h.RenderFailure >= pauseUnrendered:
			err = p.pause(ctx, h.Lane, s, delivery.ReasonExpression, "its filter or transform fails, as the attempts of its dead deliveries say: "+
				"change the expression")
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	for lane, s := range p.known { // those without health, too
		p.watched(lane, s, now)
	}
	return errors.Join(errs...)
}

func (p *Pauser) state(lane delivery.Lane) *pauseState {
	s := p.known[lane]
	if s == nil {
		if len(p.known) >= maxLaneState {
			clear(p.known)
		}
		s = &pauseState{}
		p.known[lane] = s
	}
	return s
}

// watched tells whether the lane may have to be paused: not while it is. Once a pause has ended, what was known before no longer counts.
func (p *Pauser) watched(lane delivery.Lane, s *pauseState, now time.Time) bool {
	switch {
	case p.paused(lane):
		s.seen = true
		return false
	case s.seen, !s.asked.IsZero() && now.Sub(s.asked) > noticeTime: // the second: it was resumed before this process noticed, or is gone
		p.lanes.ResetHealth(lane)
		delete(p.known, lane)
		return false // with the health of the next look
	}
	return s.asked.IsZero()
}

// compare brings lane records and health together.
func (p *Pauser) compare(ctx context.Context) error {
	records, err := p.store.LaneRecords(ctx)
	if err != nil {
		return err
	}
	found := make(map[delivery.Lane]delivery.LaneRecord, len(records.Lanes))
	for _, r := range records.Lanes {
		found[r.Lane] = r
	}
	now := time.Now()
	var errs []error
	healths := p.lanes.Health()
	alive := make(map[delivery.Lane]bool, len(healths))
	for _, h := range healths {
		if h.Lane.Kind != delivery.KindWebhook {
			continue
		}
		alive[h.Lane] = true
		s := p.state(h.Lane)
		if !p.watched(h.Lane, s, now) {
			continue
		}
		if err := p.judge(ctx, h, found[h.Lane], s, now); err != nil {
			errs = append(errs, err) // one lane must not keep the others from theirs
		}
	}
	for lane, s := range p.known {
		if !alive[lane] && !s.seen && s.asked.IsZero() {
			delete(p.known, lane)
		}
	}
	return errors.Join(errs...)
}

func (p *Pauser) judge(ctx context.Context, h delivery.LaneHealth, r delivery.LaneRecord, s *pauseState, now time.Time) error {
	if r.Failing && !h.LastTaken.IsZero() && now.Sub(h.LastTaken) < r.FailingFor {
		s.marked = false
		return p.store.ClearFailing(ctx, h.Lane)
	}
	if s.marked && !r.Failing {
		s.baseline = now // another replica has delivered since, or an operator resumed the rule
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
		if err := p.store.MarkFailing(ctx, h.Lane, now.Sub(since)); err != nil {
			return err
		}
		s.marked = true
		return nil
	}
	if r.FailingFor-now.Sub(h.LastFailure) < pauseAfter { // from the mark to the last failure: a quiet day is none of failure
		return nil
	}
	n, err := p.store.CountAttempts(ctx, h.Lane, r.FailingFor, pauseAttempts)
	if err != nil || n < pauseAttempts {
		return err
	}
	why := fmt.Sprintf("its endpoint has taken nothing from any replica for %.0f hours: make it work", r.FailingFor.Hours())
	return p.pause(ctx, h.Lane, s, delivery.ReasonFailing, why)
}

func (p *Pauser) pause(ctx context.Context, lane delivery.Lane, s *pauseState, reason delivery.Reason, why string) error {
	paused, err := p.store.PauseRule(ctx, lane, reason)
	if err != nil {
		return err
	}
	s.asked = time.Now()
	if !paused {
		return nil // another replica was first
	}
	p.counter.WithLabelValues(string(reason)).Inc()
	p.logger.ErrorContext(ctx, "rule is paused, and its deliveries wait: mend what is wrong, then resume it",
		"rule_id", lane.RuleID, "reason", string(reason), "why", why,
		"resume", fmt.Sprintf("webhook-dispatcher rules set %d --resume", lane.RuleID))
	return nil
}
