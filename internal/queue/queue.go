// Package queue keeps deliveries in the database until they have ended: it writes rows and results in batches, claims what
// is due under a lease, and prunes what is old.
//
// It promises that a row handed to it is stored or still waiting to be, never dropped, and that the database being away
// slows nothing but itself. It does not send anything: lanes do, which it knows only as places with room.
package queue

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Store is the database as the queue needs it. All times in it are the database's.
type Store interface {
	// Insert makes rows; one that exists already, in any state, stays as it is. Rows that no try can store are named by a
	// *delivery.RejectedError; the others are stored then.
	Insert(ctx context.Context, rows []delivery.Insert) error
	// Finish writes results of leases and tells which no longer fitted because the lease had gone to somebody else.
	Finish(ctx context.Context, updates []delivery.Update) (lost []delivery.ID, err error)
	// FinishEvent removes the row of an event and makes those of its deliveries, in one transaction. It returns false, and has done
	// nothing, where the row does not have the token (any more).
	FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error)
	// LogAttempts appends to the attempt log.
	LogAttempts(ctx context.Context, attempts []delivery.Attempt) error
	// MaxBody returns the largest body in bytes that fits a row.
	MaxBody() int
}

// backoff waits between tries against a database that does not answer: doubling from 100 ms to 5 s, ±20 %.
type backoff struct{ next time.Duration }

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// wait returns ctx's error when ctx ended first.
func (b *backoff) wait(ctx context.Context) error {
	b.next = min(max(2*b.next, backoffMin), backoffMax)
	return sleep(ctx, jittered(b.next))
}

func (b *backoff) reset() { b.next = 0 }

// jittered returns d, ±20 %: replicas that start together must not go on together.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// quietly logs the first of a row of failures and then one a minute, so that a database that is away fills no log.
type quietly struct {
	logger *slog.Logger
	last   time.Time
	failed bool
}

func (q *quietly) failure(ctx context.Context, what string, err error) {
	if now := time.Now(); !q.failed || now.Sub(q.last) >= time.Minute {
		q.logger.WarnContext(ctx, "queue: the database fails; trying again", "what", what, "error", err)
		q.last, q.failed = now, true
	}
}

func (q *quietly) success(ctx context.Context, what string) {
	if q.failed {
		q.logger.InfoContext(ctx, "queue: the database works again", "what", what)
		q.failed = false
	}
}

// note logs err, or that what failed before works again.
func note(ctx context.Context, log *quietly, what string, err error) {
	switch {
	case err == nil:
		log.success(ctx, what)
	case ctx.Err() == nil:
		log.failure(ctx, what, err)
	}
}
