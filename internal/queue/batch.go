package queue

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
)

// batcher passes items to write in batches: the items that arrive during a write form the next
// batch. A failed batch is retried until it succeeds or run ends.
type batcher[T any] struct {
	what   string // for the log: "rows", "results"
	limit  int    // items in a batch
	write  func(ctx context.Context, items []T) error
	logger *slog.Logger
	wanted func(item T) bool // nil: all are

	failure atomic.Pointer[error] // of the last try; nil after a success

	mu      sync.Mutex
	items   []T           // oldest first
	writing int           // size of the batch being written
	idle    chan struct{} // closed and replaced whenever everything is written
	wake    *Wakeup       // of run, if items may wait
}

func newBatcher[T any](what string, limit int, logger *slog.Logger, write func(context.Context, []T) error) *batcher[T] {
	return &batcher[T]{what: what, limit: limit, write: write, logger: logger, idle: make(chan struct{}), wake: NewWakeup()}
}

func (b *batcher[T]) add(item T) {
	b.mu.Lock()
	b.items = append(b.items, item)
	b.mu.Unlock()
	b.wake.Wake()
}

// waiting returns how many items are not written.
func (b *batcher[T]) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) + b.writing
}

// flush waits until everything is written, or returns ctx's error.
func (b *batcher[T]) flush(ctx context.Context) error {
	for {
		b.mu.Lock()
		idle, left := b.idle, len(b.items)+b.writing
		b.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run writes until ctx ends.
func (b *batcher[T]) run(ctx context.Context) {
	var (
		back backoff.Backoff
		log  = streakLog{logger: b.logger}
	)
	for {
		batch := b.take()
		if len(batch) == 0 {
			select {
			case <-b.wake.signal:
				continue
			case <-ctx.Done():
				return
			}
		}
		for {
			err := b.write(ctx, batch)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			b.failure.Store(&err)
			log.note(ctx, "write "+b.what, err)
			b.dropUnwanted()
			if back.Wait(ctx) != nil {
				return
			}
		}
		b.failure.Store(nil)
		log.note(ctx, "write "+b.what, nil)
		back.Reset()
		b.written()
	}
}

// dropUnwanted drops waiting items that are no longer wanted, so that a long outage does not
// accumulate items of revoked partitions. The batch being written keeps flush waiting. wanted is
// called without the lock, as it may add items.
func (b *batcher[T]) dropUnwanted() {
	if b.wanted == nil {
		return
	}
	b.mu.Lock()
	items := b.items
	b.items = nil
	b.mu.Unlock()
	items = slices.DeleteFunc(items, func(item T) bool { return !b.wanted(item) })
	b.mu.Lock()
	b.items = append(items, b.items...)
	b.mu.Unlock()
}

func (b *batcher[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = min(len(b.items), b.limit)
	batch := slices.Clone(b.items[:b.writing])
	b.items = slices.Delete(b.items, 0, b.writing) // which frees the bodies
	return batch
}

func (b *batcher[T]) written() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = 0
	if len(b.items) == 0 {
		close(b.idle)
		b.idle = make(chan struct{})
	}
}
