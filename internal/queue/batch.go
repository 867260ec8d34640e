package queue

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
)

// batcher hands items to one writer in batches: what gathers while a batch is being written is the next one. A batch that
// fails is tried again until it succeeds or the batcher is stopped.
type batcher[T any] struct {
	what   string // for the log: "rows", "results"
	limit  int    // items in a batch
	write  func(ctx context.Context, items []T) error
	logger *slog.Logger
	wanted func(item T) bool // nil: all are; see sift

	failure atomic.Pointer[error] // why the last try failed, nil when it did not

	mu      sync.Mutex
	items   []T           // waiting, oldest first
	writing int           // items of the batch being written
	idle    chan struct{} // closed and replaced whenever nothing waits or is being written
	wake    chan struct{} // holds one token when items may be waiting
}

func newBatcher[T any](what string, limit int, logger *slog.Logger, write func(context.Context, []T) error) *batcher[T] {
	return &batcher[T]{
		what: what, limit: limit, write: write, logger: logger,
		idle: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

func (b *batcher[T]) add(item T) {
	b.mu.Lock()
	b.items = append(b.items, item)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// waiting returns how many items are not written yet.
func (b *batcher[T]) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) + b.writing
}

// flush returns when nothing is left to write, or with ctx's error.
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
			case <-b.wake:
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
			b.sift()
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

// sift drops what waits and is no longer wanted, so that a database that is away for long does not gather what partitions that
// came and went have left behind. It is called while a batch is under way, which keeps flush waiting. No lock is held while
// asking: the answer may add items.
func (b *batcher[T]) sift() {
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
	n := min(len(b.items), b.limit)
	batch := append([]T(nil), b.items[:n]...)
	rest := copy(b.items, b.items[n:])
	clear(b.items[rest:]) // lets the bodies go
	b.items = b.items[:rest]
	b.writing = n
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
