// Package inflight is the life of work in flight, shared by dispatch and the webfilter stage: the
// hand-off of a first try to the database, the line for slots in which claimed rows go first, and
// the drain of a partition's events. Each user decides when something may be sent.
//
// The result of a first try that becomes a row while it runs is written exactly once, under the
// row's lease or in place of the row. No claimed row starts under a lease too short to write its
// result.
//
// The life of a first try (Cell):
//
//	waiting ──► running ──── result ───────────────────────────────────► ended: the owner acts on it
//	  │            │ Lease
//	  │ Queue      ▼
//	  └───────► handing ──── result, then asked by the queue (Wanted) ─► ended: the owner acts on it, no row
//	               │ Stored
//	               ├──────── it was not running, or the result came before ─► ended: the row has it
//	               ▼
//	            handed ───── result ───────────────────────────────────► ended: written under the lease
//
// The life of a claimed row (Pool):
//
//	claimed ──► in line ──► running ──► settled
//	               │
//	               └─ its lease gets too short, its rule rests, or the process stops ──► returned
package inflight

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// LeaseMargin is the time to write the result: what must be left of a lease, in addition to the
// longest run, when a run begins.
const LeaseMargin = 5 * time.Second

// Workers are goroutines to wait for. Context is for their requests: it ends only when Stop gives
// up on them.
type Workers struct {
	sync.WaitGroup

	Context context.Context
	cancel  context.CancelFunc
}

// NewWorkers returns Workers without goroutines.
func NewWorkers() *Workers {
	w := &Workers{}
	w.Context, w.cancel = context.WithCancel(context.Background())
	return w
}

// Stop waits for all goroutines. If ctx ends first, it cancels Context, waits on, and returns ctx's
// error. Meanwhile only the goroutines themselves may add others.
func (w *Workers) Stop(ctx context.Context) error {
	defer w.cancel()
	ended := make(chan struct{})
	go func() {
		w.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		w.cancel()
		<-ended
		return fmt.Errorf("wait for requests in flight: %w", ctx.Err())
	}
}

// Epoch is the time between two drains. Each event belongs to one, so that all events of an
// ownership period can be given up at once. It is safe for concurrent use.
type Epoch struct {
	left, givenUp     atomic.Int64
	draining, dropped atomic.Bool
	empty             chan struct{} // holds one token once left reached 0 during a drain
}

// NewEpoch returns an epoch without events.
func NewEpoch() *Epoch { return &Epoch{empty: make(chan struct{}, 1)} }

// Add counts an event.
func (e *Epoch) Add() { e.left.Add(1) }

// Release counts an event as released or dropped.
func (e *Epoch) Release() {
	if e.left.Add(-1) == 0 && e.draining.Load() {
		select {
		case e.empty <- struct{}{}:
		default:
		}
	}
}

// GiveUp counts an event as given up: it is not released, and will be read again.
func (e *Epoch) GiveUp() {
	e.givenUp.Add(1)
	e.Release()
}

// Left returns how many events are neither released nor given up.
func (e *Epoch) Left() int64 { return e.left.Load() }

// GivenUp returns how many events were given up.
func (e *Epoch) GivenUp() int64 { return e.givenUp.Load() }

// Draining reports whether Drain has been called.
func (e *Epoch) Draining() bool { return e.draining.Load() }

// Drain begins a drain: no event may be added any more.
func (e *Epoch) Drain() { e.draining.Store(true) }

// Wait waits until no event of a draining epoch is left, or returns ctx's error.
func (e *Epoch) Wait(ctx context.Context) error {
	for e.left.Load() > 0 {
		select {
		case <-e.empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Drop ends the epoch: the remaining events belong to the partition's next owner, are not released,
// and their results are ignored.
func (e *Epoch) Drop() { e.dropped.Store(true) }

// Dropped reports whether the epoch has ended.
func (e *Epoch) Dropped() bool { return e.dropped.Load() }
