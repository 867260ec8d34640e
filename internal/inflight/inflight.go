// Package inflight is what everything that sends has in common while work is in flight: the
// hand-off of a first try to the database, the line for places in which claimed rows go first, and
// the drain that settles or gives up what came from a partition. Package dispatch and the webfilter
// stage are built on it, each with its own rules for when something may be sent.
//
// It promises that a first try which becomes a row while it runs has its result written exactly
// once, under the row's lease or in place of the row, and that no claimed row is started under a
// lease that would run out before its result is written.
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
//	               └─ its lease gets too short, its rule rests, or the process stops ──► given back
//
// Its types are building blocks: a Line has no lock of its own, the others say so where they have
// one.
package inflight

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// LeaseMargin is what must be left of a lease, in addition to the longest that a run takes, when
// the run begins: time to write the result.
const LeaseMargin = 5 * time.Second

// Workers are goroutines under one context that are waited for. Their Context is for requests: it
// ends only when Stop gives up on them.
type Workers struct {
	sync.WaitGroup

	Context context.Context
	cancel  context.CancelFunc
}

// NewWorkers returns Workers without a goroutine.
func NewWorkers() *Workers {
	w := &Workers{}
	w.Context, w.cancel = context.WithCancel(context.Background())
	return w
}

// Stop waits until all goroutines have returned. When ctx ends first it cancels their context,
// waits for them, and returns ctx's error. No goroutine may be added meanwhile except by one of
// them.
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
		return fmt.Errorf("waiting for what is under way: %w", ctx.Err())
	}
}

// Epoch is the time between two drains. Every event belongs to one, so that all events of an
// ownership period can be given up at once. It is safe for concurrent use.
type Epoch struct {
	left, givenUp     atomic.Int64
	draining, dropped atomic.Bool
	empty             chan struct{} // holds one token once left reached 0 during a drain
}

// NewEpoch returns an epoch without events.
func NewEpoch() *Epoch { return &Epoch{empty: make(chan struct{}, 1)} }

// Add counts one event that is neither released nor given up.
func (e *Epoch) Add() { e.left.Add(1) }

// Release counts one event as released, or as dropped.
func (e *Epoch) Release() {
	if e.left.Add(-1) == 0 && e.draining.Load() {
		select {
		case e.empty <- struct{}{}:
		default:
		}
	}
}

// GiveUp counts one event as given up: it is not released, and will be read again.
func (e *Epoch) GiveUp() {
	e.givenUp.Add(1)
	e.Release()
}

// Left returns how many events are neither released nor given up.
func (e *Epoch) Left() int64 { return e.left.Load() }

// GivenUp returns how many events were given up.
func (e *Epoch) GivenUp() int64 { return e.givenUp.Load() }

// Draining reports whether a drain has begun; it is true from then on.
func (e *Epoch) Draining() bool { return e.draining.Load() }

// Drain says that a drain has begun: no event is added any more.
func (e *Epoch) Drain() { e.draining.Store(true) }

// Wait returns nil when no event of a draining epoch is left, and ctx's error when that ends first.
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

// Drop ends the epoch: what is left belongs to the partition's next owner. It is not released, and
// what still comes of it is ignored.
func (e *Epoch) Drop() { e.dropped.Store(true) }

// Dropped reports whether the epoch has ended.
func (e *Epoch) Dropped() bool { return e.dropped.Load() }
