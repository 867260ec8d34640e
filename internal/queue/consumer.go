package queue

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Consumer sends claimed rows of one kind. Its methods do not block.
type Consumer interface {
	// Room returns how many rows of the lane may be claimed now, and for how long to lease them.
	// known is false if the lane's rule is not active: its rows wait.
	Room(lane delivery.Lane) (room int, lease time.Duration, known bool)
	// Resend sends claimed rows of one lane. Their leases expire at until, by this process's clock.
	Resend(rows []delivery.Row, until time.Time)
}

// Wakeup makes a claimer poll soon. Consumers and their claimer share one. It is safe for
// concurrent use.
type Wakeup struct{ signal chan struct{} }

// NewWakeup returns a Wakeup for one claimer.
func NewWakeup() *Wakeup { return &Wakeup{make(chan struct{}, 1)} }

// Wake reports that a lane has room again, or that rows may have become due. It does not block.
func (w *Wakeup) Wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}
