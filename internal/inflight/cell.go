package inflight

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// phase is the state of a first try. It only advances, except that a running one may wait again.
type phase uint8

const (
	waiting phase = iota
	running
	handing // its row is being stored; if the row is leased, the run goes on
	handed  // the run goes on under the lease of its row
	ended
)

// Cell is the hand-off of a first try whose run returns an R: the state shared by the run, whatever
// hands it off, and the queue. The package comment draws it. The zero Cell waits. Methods lock it
// and call nothing, so any lock may be held.
type Cell[R any] struct {
	mu      sync.Mutex
	phase   phase
	longest time.Duration // run
	lease   time.Duration
	row     *delivery.Row
	until   time.Time // the end of the row's lease
	result  *R        // came while the row was being stored
	keep    bool      // store the row despite the result
}

// Begin records that the run begins and how long it may take. It returns false if the first try is
// being handed off or has ended.
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

// Waits reports whether the first try has neither begun nor is being handed off.
func (c *Cell[R]) Waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == waiting
}

// Open reports whether the first try has neither a result nor a row being stored.
func (c *Cell[R]) Open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase <= running
}

// WaitAgain returns a run that could do nothing yet to waiting. It returns false if it is not
// running.
func (c *Cell[R]) WaitAgain() bool { return c.move(running, waiting) }

// Abandon ends a waiting first try. It returns false if it does not wait.
func (c *Cell[R]) Abandon() bool { return c.move(waiting, ended) }

// Queue begins the hand-off of a waiting first try to a pending row. It returns false if it does
// not wait.
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
// lease covers the longest run and longest. It returns false if a hand-off has begun or the first
// try has ended.
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

// Fate is what to do with a result.
type Fate uint8

// The fates.
const (
	Yours  Fate = iota // there is no row: act on it
	Leased             // write it under the row's lease
	Later              // the row is being stored: Wanted or Stored will return it
)

// Finish takes the run's result and returns what to do with it. keep stores a row that is being
// stored even so; otherwise the result replaces the row if it still can.
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
	default: // or ended: it was dropped
		c.result, c.keep = result, keep
		return Later
	}
}

// Wanted reports whether the row of a hand-off is still to be stored; the queue calls it before
// each try. A result that came meanwhile replaces the row: it is returned, once, to act on as if
// there had been no hand-off. dropped means that another process owns the event now. over is true
// once if the first try ended here.
func (c *Cell[R]) Wanted(dropped bool) (wanted bool, result *R, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase != handing: // already answered
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

// Stored records that the row of a hand-off is stored. It returns the result that came meanwhile,
// if any, to write under the lease.
func (c *Cell[R]) Stored() (result *R) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase, c.until = handed, time.Now().Add(c.lease)
	if c.result != nil || c.row == nil {
		c.phase = ended
	}
	return c.result
}

// Row returns the stored leased row of a hand-off and the end of its lease by this process's clock;
// nil if there is none.
func (c *Cell[R]) Row() (*delivery.Row, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until.IsZero() {
		return nil, time.Time{}
	}
	return c.row, c.until
}
