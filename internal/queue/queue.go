// Package queue keeps deliveries in the database until they end. It writes rows and results in
// batches, claims due rows under a lease, and prunes old ones.
//
// A row handed to it is either stored or still waiting to be stored, never dropped. A database
// outage delays only the queue. It sends nothing: consumers do (Consumer).
package queue

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Store is the part of the database that a Writer needs. Here and in the other interfaces of this
// package, the methods of package store say what each promises.
type Store interface {
	// Insert's error is a *delivery.RejectedError if all rows were stored but those that never can be.
	Insert(ctx context.Context, rows []delivery.Insert) error
	Finish(ctx context.Context, updates []delivery.Update) (lost []delivery.ID, err error)
	FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error)
	LogAttempts(ctx context.Context, attempts []delivery.Attempt) error
	MaxBody() int
}

// streakLog logs the first failure of a streak, then at most one a minute, and the success that
// ends it. It is for one goroutine.
type streakLog struct {
	logger  *slog.Logger
	failing bool
	repeats rate.Sometimes
}

// note logs err or, after a streak, recovery. A failure after ctx has ended is not logged.
func (l *streakLog) note(ctx context.Context, what string, err error) {
	switch {
	case err == nil && l.failing:
		l.failing = false
		l.logger.InfoContext(ctx, "queue: database recovered", "what", what)
	case err != nil && ctx.Err() == nil:
		if !l.failing {
			l.failing, l.repeats = true, rate.Sometimes{Interval: time.Minute}
		}
		l.repeats.Do(func() {
			l.logger.WarnContext(ctx, "queue: database error, retrying", "what", what, "error", err)
		})
	}
}

// Consumer sends claimed rows of one kind. Its methods do not block.
type Consumer interface {
	// Room returns how many rows of the lane may be claimed now, and for how long to lease them.
	// known is false if the lane's rule is not active: its rows wait.
	Room(lane delivery.Lane) (room int, lease time.Duration, known bool)
	// Resend sends claimed rows of one lane. Their leases expire at until, by this process's clock.
	Resend(rows []delivery.Row, until time.Time)
}

// Wakeup wakes a goroutine. A claimer, which polls then, shares one with its consumers. It is safe
// for concurrent use.
type Wakeup struct{ signal chan struct{} }

// NewWakeup returns a Wakeup for one goroutine.
func NewWakeup() *Wakeup { return &Wakeup{make(chan struct{}, 1)} }

// Wake reports that a lane has room again, or that rows may have become due. It does not block.
func (w *Wakeup) Wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}
