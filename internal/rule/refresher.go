package rule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Source is where rows and their options come from. An error's text holds no secret.
type Source interface {
	// Rules returns all rows, disabled ones included, and options as they were at one moment: no rule is there without its options.
	Rules(ctx context.Context) (Tables, error)
}

// Tables are what there is of rules, each list in any order.
type Tables struct {
	Webhooks   []Row
	Webfilters []WebfilterRow
	Options    []Option // one at most of a rule; none where there is no such table yet
}

// Options are what a Refresher needs.
type Options struct {
	Source   Source        // required
	Compiler *Compiler     // required
	Period   time.Duration // between refreshes, 5 s if zero
	// QueryTimeout bounds one reading, 10 s if zero: a database that hangs must not hold up the refreshes after it for good.
	QueryTimeout time.Duration
	Logger       *slog.Logger          // nil discards
	Registerer   prometheus.Registerer // nil registers no metrics
}

// Refresher keeps the current snapshot. Load must have returned nil before anything is matched.
type Refresher struct {
	options Options
	log     *slog.Logger
	metrics *metrics
	current atomic.Pointer[reading]

	// turn holds a token while somebody reads: no older reading replaces a newer one. It guards lastFailure, faults and forced.
	turn        chan struct{}
	lastFailure string
	faults      faults // those logged
	forced      spacing

	failure atomic.Pointer[string] // why the last reading failed, nil where it did not
	held    atomic.Int64           // callers of Fresh whose reading has failed
}

// reading is a snapshot with the moment at which its reading began, by the monotonic clock.
type reading struct {
	*Snapshot

	began time.Time
}

// New returns a Refresher that has read nothing yet. It starts no goroutine.
func New(options Options) (*Refresher, error) {
	switch {
	case options.Source == nil || options.Compiler == nil || options.Compiler.Catalogue == nil:
		return nil, errors.New("rules: a source and a catalogue are needed; the first refresh would panic without")
	case options.Period < 0 || options.QueryTimeout < 0:
		return nil, fmt.Errorf("rules: the period %s and the query timeout %s must not be negative", options.Period, options.QueryTimeout)
	}
	options.Period = cmp.Or(options.Period, 5*time.Second)
	options.QueryTimeout = cmp.Or(options.QueryTimeout, 10*time.Second)
	log := cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	r := &Refresher{options: options, log: log, turn: make(chan struct{}, 1), faults: faults{}}
	var err error
	if r.metrics, err = newMetrics(options.Registerer, r.lastRefresh); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return r, nil
}

// Current returns the last good snapshot, nil before the first. See Snapshot about nil.
func (r *Refresher) Current() *Snapshot {
	if now := r.current.Load(); now != nil {
		return now.Snapshot
	}
	return nil
}

// Active returns the rule of a lane in the current snapshot, nil where it is not to be sent to, or nothing has been loaded.
func (r *Refresher) Active(lane delivery.Lane) *Rule {
	key, is := KeyOf(lane)
	if s := r.Current(); s != nil && is {
		return s.Active(key)
	}
	return nil
}

// Paused reports whether the rule of a lane is matched in the current snapshot, but not to be sent to. Before the first none is.
func (r *Refresher) Paused(lane delivery.Lane) bool {
	key, is := KeyOf(lane)
	s := r.Current()
	return s != nil && is && s.Paused(key)
}

// Webfilters returns the rows that are to be called for a filter or an event; see Snapshot. Load must have returned nil before.
func (r *Refresher) Webfilters(name string) []*Webfilter { return r.Current().Webfilters(name) }

// Load reads the rules until that succeeds once, waiting longer after each failure, and returns nil then. It returns an
// error only when ctx ends first; the error says why the rules could not be read.
func (r *Refresher) Load(ctx context.Context) error {
	wait := backoff.Backoff{Min: 500 * time.Millisecond, Max: 10 * time.Second}
	for {
		err := r.Refresh(ctx)
		if err == nil {
			return nil
		}
		if wait.Wait(ctx) != nil {
			return fmt.Errorf("load the rules for the first time: %w", err)
		}
	}
}

// Run refreshes with the period until ctx ends. A refresh that fails keeps the last good snapshot.
func (r *Refresher) Run(ctx context.Context) {
	ticker := time.NewTicker(r.options.Period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = r.Refresh(ctx) // which has logged and counted its failure
		}
	}
}

// Refresh reads the rules now, so that a change counts at once. On an error the snapshot stays as it was.
func (r *Refresher) Refresh(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("read the rules: %w", ctx.Err())
	}
	defer func() { <-r.turn }()
	return r.refresh(ctx)
}

// refresh reads the rules. The caller has the turn.
func (r *Refresher) refresh(ctx context.Context) error {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, r.options.QueryTimeout)
	defer cancel()
	tables, err := r.options.Source.Rules(bounded)
	if err != nil {
		if ctx.Err() == nil {
			r.failed(err)
		}
		return fmt.Errorf("read the rules: %w", err)
	}
	r.failure.Store(nil)
	if r.lastFailure != "" {
		r.log.LogAttrs(ctx, slog.LevelInfo, "rules can be read again")
		r.lastFailure = ""
	}
	before := r.Current()
	if before != nil && before.same(&tables) {
		r.current.Store(&reading{before, began})
		r.metrics.unchanged.Inc()
		return nil
	}
	snapshot := cmp.Or(before, &Snapshot{}).next(tables, r.options.Compiler)
	r.current.Store(&reading{snapshot, began})
	r.metrics.changed.Inc()
	r.metrics.count(snapshot)
	r.logChange(ctx, before, snapshot)
	return nil
}

// Ready returns nil once rules have been loaded, else why they have not. Old rules stay good, unless events wait for newer ones: see Fresh.
func (r *Refresher) Ready(context.Context) error {
	loaded, failure := r.current.Load() != nil, r.failure.Load()
	switch {
	case loaded && failure != nil && r.held.Load() > 0:
		return fmt.Errorf("the rules cannot be read, and events wait that a rule adopted by now may want: %s", *failure)
	case loaded:
		return nil
	case failure != nil:
		return fmt.Errorf("the rules have not been loaded: %s", *failure)
	}
	return errors.New("the rules have not been loaded yet")
}

// failed counts a failure and logs it when it differs from the one before. The caller has the turn.
func (r *Refresher) failed(err error) {
	r.metrics.failed.Inc()
	text := err.Error()
	r.failure.Store(&text)
	if text == r.lastFailure {
		return
	}
	if r.lastFailure = text; r.current.Load() == nil {
		r.log.Error("rules cannot be read; nothing is consumed until they are", "error", text)
	} else {
		r.log.Error("rules cannot be read; the last good ones stay in force", "error", text)
	}
}

// lastRefresh returns when the last successful reading began, in Unix seconds; 0 before the first.
func (r *Refresher) lastRefresh() float64 {
	if now := r.current.Load(); now != nil {
		return float64(now.began.UnixMicro()) / 1e6
	}
	return 0
}
