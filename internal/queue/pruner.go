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
	Expire(ctx context.Context, age time.Duration, limit int) (int, error)
}

// Retention is how long rows are kept. Zero keeps them forever.
type Retention struct {
	Delivered                   time.Duration // they detect repeats of their event: at least 24 h
	Dead, Attempts, Undecodable time.Duration
	// Pending is how long a row may go without a try, as rows of disabled and paused rules do,
	// before it is dead-lettered as expired.
	Pending time.Duration
}

const (
	pruneEvery   = time.Minute
	pruneRows    = 500
	prunePause   = 50 * time.Millisecond
	pruneBatches = 200 // bounds a round, to limit the load on the LMS's database
)

// Pruner deletes old rows in small batches with pauses between them.
type Pruner struct{ options PrunerOptions }

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
	return &Pruner{o}, nil
}

// Run prunes about once a minute until ctx ends. Replicas may prune at the same time.
func (p *Pruner) Run(ctx context.Context) {
	log := streakLog{logger: p.options.Logger}
	for {
		if backoff.Sleep(ctx, backoff.Jitter(pruneEvery)) != nil {
			return
		}
		log.note(ctx, "prune old rows", p.prune(ctx))
	}
}

// prunes is a method of PruneStore.
type prunes = func(ctx context.Context, age time.Duration, limit int) (int, error)

func (p *Pruner) prune(ctx context.Context) error {
	store, keep := p.options.Store, p.options.Keep
	ended := func(state delivery.State) prunes {
		return func(ctx context.Context, age time.Duration, limit int) (int, error) {
			return store.PruneEnded(ctx, state, age, limit)
		}
	}
	var errs []error
	for _, job := range []struct {
		what string
		age  time.Duration
		do   prunes
	}{
		{"expired deliveries", keep.Pending, store.Expire},
		{"delivered deliveries", keep.Delivered, ended(delivery.Delivered)},
		{"halted deliveries", keep.Delivered, ended(delivery.Halted)},
		{"dead deliveries", keep.Dead, ended(delivery.Dead)},
		{"attempts", keep.Attempts, store.PruneAttempts},
		{"undecodable records", keep.Undecodable, store.PruneUndecodable},
	} {
		if job.age <= 0 {
			continue
		}
		total, err := drainBatches(ctx, job.age, job.do)
		if total > 0 {
			p.options.Logger.InfoContext(ctx, "pruned", "what", job.what, "count", total, "older_than", job.age)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func drainBatches(ctx context.Context, age time.Duration, do prunes) (total int, err error) {
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
