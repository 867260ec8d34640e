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

// Store is the part of the database that a Writer needs. Times are the database's.
type Store interface {
	// Insert creates rows and leaves existing ones, in any state, unchanged. Rows that can never be
	// stored are in a *delivery.RejectedError; the others are stored.
	Insert(ctx context.Context, rows []delivery.Insert) error
	// Finish writes the results of leases and returns those whose lease another process holds.
	Finish(ctx context.Context, updates []delivery.Update) (lost []delivery.ID, err error)
	// FinishEvent deletes an event's row and creates those of its deliveries in one transaction.
	// done is false, and nothing has changed, if token no longer holds the row.
	FinishEvent(ctx context.Context, id delivery.ID, token delivery.Token, rows []delivery.Insert) (done bool, err error)
	// LogAttempts appends to the attempt log.
	LogAttempts(ctx context.Context, attempts []delivery.Attempt) error
	// MaxBody returns the largest body in bytes that fits a row.
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
