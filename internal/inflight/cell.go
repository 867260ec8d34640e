package inflight

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// phase is where a first try stands. It moves down this list, except that a running one may go back
// to waiting.
type phase uint8

const (
	waiting phase = iota
	running
	handing // its row is on the way into the database; if the row is leased, the run goes on
	handed  // the run goes on under the lease of its row
	ended
)

// Cell is the hand-off of one first try whose run returns an R: the state that its run, the one who
// hands it off and the queue agree on. The package comment draws it. The zero Cell waits. Its
// methods lock it and call nothing, so they may be called with any lock held.
type Cell[R any] struct {
	mu      sync.Mutex
	phase   phase
	longest time.Duration // that the run takes
	lease   time.Duration
	row     *delivery.Row
	until   time.Time // the end of the row's lease
	result  *R        // came while the row was on its way
	keep    bool      // the row is stored in spite of the result
}

// Begin notes that the run begins, and how long it may take. It returns false if the first try does
// not wait: it is being handed off, or has ended.
func (c *Cell[R]) Begin(longest time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longest = longest
	waited := c.phase == waiting
	if waited {
		c.phase = running
	}
	return waited
}

// Waits reports whether the first try has not begun, and is not being handed off either.
func (c *Cell[R]) Waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == waiting
}

// Open reports whether the first try has neither a result nor a row on its way.
func (c *Cell[R]) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase <= running
}

// WaitAgain takes a run back that could do nothing yet. It returns false if the first try is not
// running any more.
func (c *Cell[R]) WaitAgain() bool { return c.move(running, waiting) }

// Abandon ends a first try that waits. It returns false if it does not wait.
func (c *Cell[R]) Abandon() bool { return c.move(waiting, ended) }

// Queue begins the hand-off of a first try that waits, to a row that is not leased. It returns
// false if the first try does not wait.
func (c *Cell[R]) Queue() bool { return c.move(waiting, handing) }

func (c *Cell[R]) move(from, to phase) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != from {
		return false
	}
	c.phase = to
	return true
}

// Lease begins the hand-off of a first try that runs, or is about to, to a leased row of d. The
// lease lasts for the run's longest time, and for that given. It returns false if the first try is
// being handed off already, or has ended.
func (c *Cell[R]) Lease(d *delivery.Delivery, longest time.Duration, why delivery.Reason) (delivery.Insert, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase > running {
		return delivery.Insert{}, false
	}
	c.phase = handing
	c.lease = max(delivery.Lease(c.longest), delivery.Lease(longest))
	c.row = &delivery.Row{
		Delivery: *d, Token: delivery.NewToken(), State: delivery.Leased, Claims: 1, Reason: why,
	}
	return delivery.HandOff(d, c.row.Token, c.lease, why), true
}

// Fate is what becomes of a result.
type Fate uint8

// The fates.
const (
	// Yours: there is no row; the caller acts on the result.
	Yours Fate = iota
	// Leased: the result is to be written under the lease of the row.
	Leased
	// Later: the row is on its way; Wanted or Stored returns the result.
	Later
)

// Finish takes the result of the run, and says what is to be done with it. keep stores a row that
// is on its way all the same; otherwise the result takes its place if it can.
func (c *Cell[R]) Finish(result *R, keep bool) Fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case waiting, running:
		c.phase = ended
		return Yours
	case handed:
		c.phase = ended
		return Leased
	default: // an ended one was dropped
		c.result, c.keep = result, keep
		return Later
	}
}

// Wanted reports whether the row of a hand-off is still to be stored; the queue asks right before
// each try. A result that came meanwhile makes the row pointless: it is returned, once however
// often this is asked, and the owner acts on it as if there had been no hand-off. dropped says that
// the event belongs to another process by now. over is true once if the first try ended here.
func (c *Cell[R]) Wanted(dropped bool) (wanted bool, result *R, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase != handing: // asked once more than there is an answer to
		return c.phase == handed, nil, false
	case !dropped && (c.result == nil || c.keep):
		return true, nil, false
	}
	c.phase = ended
	if dropped {
		return false, nil, true
	}
	return false, c.result, true
}

// Stored notes that the row of a hand-off is stored. It returns the result that came meanwhile, nil
// if none did: it is to be written under the lease.
func (c *Cell[R]) Stored() (result *R) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase, c.until = handed, time.Now().Add(c.lease)
	if c.result != nil || c.row == nil {
		c.phase = ended
	}
	return c.result
}

// Row returns the leased row of a hand-off that has been stored, and the end of its lease by this
// process's clock; nil if there is none.
func (c *Cell[R]) Row() (*delivery.Row, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.IsZero() {
		return nil, time.Time{}
	}
	return c.row, c.until
}
