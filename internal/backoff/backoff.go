// Package backoff makes waits between retries: growing, with jitter, ended by a context.
package backoff

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"
)

// Defaults of a Backoff.
const (
	defaultMin = 100 * time.Millisecond
	defaultMax = 5 * time.Second
)

// Backoff yields waits that double from Min to Max, each ±50 % so that those who failed together do
// not retry together. The zero value is ready to use. It is for one goroutine.
type Backoff struct {
	Min time.Duration // first wait, 100 ms if zero
	Max time.Duration // longest wait before jitter, 5 s if zero

	last time.Duration
}

// Next returns the wait before the next try.
func (b *Backoff) Next() time.Duration {
	b.last = min(max(2*b.last, cmp.Or(b.Min, defaultMin)), cmp.Or(b.Max, defaultMax))
	return b.last/2 + rand.N(b.last)
}

// Wait waits before the next try, or returns the cause of ctx's end.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Reset starts over after a success.
func (b *Backoff) Reset() { b.last = 0 }

// Jitter returns d ±20 %, so that replicas do not act in step.
func Jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// Sleep waits for d, if above 0, or returns the cause of ctx's end.
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
