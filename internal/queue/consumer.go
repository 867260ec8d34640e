package queue

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Consumer takes claimed rows of one kind. Its methods do not block.
type Consumer interface {
	// Room returns how many rows of the lane may be claimed now and for how long they should be
	// leased. known is false for a lane whose rule is not active: its rows wait.
	Room(lane delivery.Lane) (room int, lease time.Duration, known bool)
	// Resend takes claimed rows of one lane over. Their leases run out at until, by this process's
	// clock.
	Resend(rows []delivery.Row, until time.Time)
}

// Wakeup makes a claimer look for due rows soon. Consumers and their claimer share one, so that
// neither has to know the other first. It is safe for concurrent use.
type Wakeup struct{ signal chan struct{} }

// NewWakeup returns a Wakeup for one claimer.
func NewWakeup() *Wakeup { return &Wakeup{make(chan struct{}, 1)} }

// Wake says that a lane has room again, or that rows are due that may not be known. It does not
// block.
func (w *Wakeup) Wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}
