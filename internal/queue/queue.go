// Package queue keeps deliveries in the database until they have ended: it writes rows and results in batches, claims what
// is due under a lease, and prunes what is old.
//
// It promises that a row handed to it is stored or still waiting to be, never dropped, and that the database being away
// slows nothing but itself. It does not send anything: lanes do, which it knows only as places with room.
package queue

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

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

// streakLog logs the first failure of a streak, then at most one a minute, and the success that ends
// it, so that a database that is away does not fill the log. It is for one goroutine.
type streakLog struct {
	logger  *slog.Logger
	failing bool
	repeats rate.Sometimes
}

// note logs err, or that what failed before works again. A failure after ctx has ended is not logged.
func (l *streakLog) note(ctx context.Context, what string, err error) {
	switch {
	case err == nil && l.failing:
		l.failing = false
		l.logger.InfoContext(ctx, "queue: the database works again", "what", what)
	case err != nil && ctx.Err() == nil:
		if !l.failing {
			l.failing, l.repeats = true, rate.Sometimes{Interval: time.Minute}
		}
		l.repeats.Do(func() {
			l.logger.WarnContext(ctx, "queue: the database fails; trying again", "what", what, "error", err)
		})
	}
}
