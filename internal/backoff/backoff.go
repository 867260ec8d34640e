// Package backoff spaces tries against something that is away: growing waits with jitter, which end
// with a context. It has no clock of its own and starts nothing.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Waits of a Backoff whose fields are zero.
const (
	defaultMin = 100 * time.Millisecond
	defaultMax = 5 * time.Second
)

// Backoff yields waits that double from Min to Max, each ±50 %: those who failed together, replicas
// or transactions, must not try again together. The zero value is ready to use. It is for one
// goroutine.
type Backoff struct {
	Min time.Duration // first wait, 100 ms if zero
	Max time.Duration // longest wait before jitter, 5 s if zero

	last time.Duration
}

// Next returns the wait before the next try.
func (b *Backoff) Next() time.Duration {
	least, most := b.Min, b.Max
	if least == 0 {
		least = defaultMin
	}
	if most == 0 {
		most = defaultMax
	}
	b.last = min(max(2*b.last, least), most)
	return b.last/2 + rand.N(b.last)
}

// Wait waits before the next try. It returns the cause of ctx's end if that comes first.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Reset makes the next wait the first again, after a try that succeeded.
func (b *Backoff) Reset() { b.last = 0 }

// Jitter returns d ±20 %, for what replicas do periodically and should not do in step.
func Jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// Sleep waits for d, not at all if d is zero or negative. It returns the cause of ctx's end if ctx
// has ended or ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
