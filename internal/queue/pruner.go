package queue

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// PruneStore is the part of the database that a Pruner needs. Each call handles up to limit rows
// older than age and returns how many.
type PruneStore interface {
	PruneEnded(ctx context.Context, state delivery.State, age time.Duration, limit int) (int, error)
	PruneAttempts(ctx context.Context, age time.Duration, limit int) (int, error)
	PruneUndecodable(ctx context.Context, age time.Duration, limit int) (int, error)
	// Expire dead-letters waiting rows.
	Expire(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Retention is how long rows are kept. Zero keeps them forever.
type Retention struct {
	// Delivered rows detect repeats of their event: at least 24 h.
	Delivered   time.Duration
	Dead        time.Duration
	Attempts    time.Duration
	Undecodable time.Duration
	// Pending is how long a row may go without a try, as rows of disabled and paused rules do,
	// before it is dead-lettered as expired.
	Pending time.Duration
}

const (
	pruneEvery = time.Minute
	pruneRows  = 500
	prunePause = 50 * time.Millisecond
	// pruneBatches bounds a round, to limit the load on the LMS's database.
	pruneBatches = 200
)

// Pruner deletes old rows in small batches with pauses between them.
type Pruner struct {
	store  PruneStore
	keep   Retention
	logger *slog.Logger
}

// PrunerOptions configure a Pruner.
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
		return nil, errors.New("retention of delivered rows must be at least 24h: they detect repeats")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
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
			errs = append(errs, err)
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
