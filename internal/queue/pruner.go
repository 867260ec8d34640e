package queue

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// PruneStore is the database as the pruner needs it. Each call deletes up to limit rows that are older than age and tells how many.
type PruneStore interface {
	PruneEnded(ctx context.Context, state delivery.State, age time.Duration, limit int) (int, error)
	PruneAttempts(ctx context.Context, age time.Duration, limit int) (int, error)
	PruneUndecodable(ctx context.Context, age time.Duration, limit int) (int, error)
	// Expire makes waiting rows dead.
	Expire(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Retention says how long rows are kept. Zero keeps them for ever.
type Retention struct {
	// Delivered rows hold the key by which a repeat is recognised: a day at least.
	Delivered   time.Duration
	Dead        time.Duration
	Attempts    time.Duration
	Undecodable time.Duration
	// Pending is how long a row may wait untouched, as those of disabled and paused rules do, before it is dead, reason expired.
	Pending time.Duration
}

const (
	pruneEvery = time.Minute
	pruneRows  = 500
	prunePause = 50 * time.Millisecond
	// pruneBatches bounds one round, so that a backlog of old rows does not keep the LMS's database busy without end.
	pruneBatches = 200
)

// Pruner deletes what is older than it has to be, in small batches with pauses between them.
type Pruner struct {
	store  PruneStore
	keep   Retention
	logger *slog.Logger
}

// PrunerOptions are what a pruner needs.
type PrunerOptions struct {
	Store  PruneStore // required
	Keep   Retention
	Logger *slog.Logger // nil discards
}

// NewPruner returns a pruner.
func NewPruner(o PrunerOptions) (*Pruner, error) {
	if o.Store == nil {
		return nil, errors.New("pruner: no store")
	}
	if o.Keep.Delivered != 0 && o.Keep.Delivered < 24*time.Hour {
		return nil, errors.New("retention of delivered rows must be a day at least: they hold the key by which a repeat is recognised")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Pruner{store: o.Store, keep: o.Keep, logger: o.Logger}, nil
}

// Run prunes about once a minute until ctx ends. Replicas may prune at the same time.
func (p *Pruner) Run(ctx context.Context) {
	log := streakLog{logger: p.logger}
	for {
		if backoff.Sleep(ctx, backoff.Jitter(pruneEvery)) != nil {
			return
		}
		log.note(ctx, "prune old rows", p.prune(ctx))
	}
}

func (p *Pruner) prune(ctx context.Context) error {
	ended := func(state delivery.State) func(context.Context, time.Duration, int) (int, error) {
		return func(ctx context.Context, age time.Duration, limit int) (int, error) {
			return p.store.PruneEnded(ctx, state, age, limit)
		}
	}
	var errs []error
	for _, job := range []struct {
		what string
		age  time.Duration
		do   func(context.Context, time.Duration, int) (int, error)
	}{
		{"expired deliveries", p.keep.Pending, p.store.Expire},
		{"delivered deliveries", p.keep.Delivered, ended(delivery.Delivered)},
		{"halted deliveries", p.keep.Delivered, ended(delivery.Halted)},
		{"dead deliveries", p.keep.Dead, ended(delivery.Dead)},
		{"attempts", p.keep.Attempts, p.store.PruneAttempts},
		{"undecodable records", p.keep.Undecodable, p.store.PruneUndecodable},
	} {
		if job.age <= 0 {
			continue
		}
		total, err := drainBatches(ctx, job.age, job.do)
		if total > 0 {
			p.logger.InfoContext(ctx, "pruned", "what", job.what, "count", total, "older_than", job.age)
		}
		if err != nil {
			errs = append(errs, err) // one table that fails must not keep the others
		}
	}
	return errors.Join(errs...)
}

func drainBatches(ctx context.Context, age time.Duration, do func(context.Context, time.Duration, int) (int, error)) (int, error) {
	total := 0
	for range pruneBatches {
		n, err := do(ctx, age, pruneRows)
		total += n
		if err != nil || n < pruneRows {
			return total, err
		}
		if err := backoff.Sleep(ctx, prunePause); err != nil {
			return total, err
		}
	}
	return total, nil
}
