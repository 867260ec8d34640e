// Package breaker is the circuit breaker of an endpoint of a webhook rule or a webfilter row.
//
//	          8 failures in a row over 5 s           10 s
//	closed ─────────────────────────► open ─────────────► half-open ── probe fails ──► open
//	  ▲                                                    │    │
//	  └──────────────── probe works ───────────────────────┘    a probe without result: half-open
//
// Its callers act on its state. It has no goroutine and no lock.
package breaker

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// State is the state of a breaker.
type State = gobreaker.State

// The states; their numbers are those of the metrics: 0, 1 and 2.
const (
	Closed   = gobreaker.StateClosed
	HalfOpen = gobreaker.StateHalfOpen // one request at a time, the probe
	Open     = gobreaker.StateOpen     // send nothing
)

const (
	// TripAfter is how many consecutive failures open a breaker.
	TripAfter = 8
	// TripTime is the minimum length of such a streak: a short restart must not open it.
	TripTime = 5 * time.Second
	// OpenFor is how long it stays open before a probe.
	OpenFor = 10 * time.Second
)

// The results that gobreaker is given.
var (
	errFails = errors.New("unhealthy")
	errNone  = errors.New("no signal")
)

// Breaker is a circuit breaker. Its owner's lock must be held for every call.
//
// While closed, gobreaker hears only of failures and of the first success after one: reporting
// every success would cost up to a fifth of a delivery's time. While half-open, requests need a
// permit, and the probe has the only one.
type Breaker struct {
	gate   *gobreaker.TwoStepCircuitBreaker[struct{}]
	state  State     // as of the last call
	since  time.Time // while closed: the start of the streak of failures; zero without one
	worked time.Time // when a request last was healthy
	round  uint32    // counts state changes: results of requests begun in an earlier round are ignored

	probe  *Request    // the request under way while half-open
	permit func(error) // of probe; must be called, or no probe is ever allowed again
}

// Request is a request's state in its breaker.
type Request struct{ round uint32 }

// New returns a closed breaker. changed, if not nil, is called at each change of state; it must not
// call the breaker.
func New(changed func(from, to State)) *Breaker {
	b := &Breaker{}
	b.gate = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     OpenFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= TripAfter && time.Since(b.since) >= TripTime
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNone) },
		OnStateChange: func(_ string, from, to State) {
			b.state, b.since = to, time.Time{}
			b.round++
			if changed != nil {
				changed(from, to)
			}
		},
	})
	return b
}

// Look returns the current state.
func (b *Breaker) Look() State {
	if b.state == Open {
		b.gate.State() // may make it half-open
	}
	return b.state
}

// State returns the state as of the last call of another method.
func (b *Breaker) State() State { return b.state }

// Probing reports whether the probe is under way; no other request may begin.
func (b *Breaker) Probing() bool { return b.probe != nil }

// Begin records a request that begins. The breaker must be neither open nor probing.
func (b *Breaker) Begin(r *Request) {
	r.round = b.round
	if b.state != HalfOpen || b.probe != nil {
		return
	}
	if permit, err := b.gate.Allow(); err == nil {
		b.probe, b.permit = r, permit
	}
}

// Note records the signal of a request that began at `began`.
func (b *Breaker) Note(r *Request, s delivery.Signal, began time.Time) {
	if b.probe == r {
		permit := b.permit
		b.probe, b.permit = nil, nil
		permit(result(s))
		return
	}
	if s == delivery.SignalHealthy {
		b.worked = time.Now()
	}
	if b.state != Closed || r.round != b.round || s == delivery.SignalNone || s == delivery.SignalHealthy && b.since.IsZero() {
		return
	}
	switch {
	case s == delivery.SignalHealthy:
		b.since = time.Time{}
	case b.since.IsZero():
		b.since = began
		if b.worked.After(began) { // a hanging request must not make a short streak long
			b.since = b.worked
		}
	}
	if permit, err := b.gate.Allow(); err == nil {
		permit(result(s))
	}
}

// End records that a request has left, sent or not: an unused probe returns its permit.
func (b *Breaker) End(r *Request) {
	if b.probe == r {
		b.Note(r, delivery.SignalNone, time.Time{})
	}
}

func result(s delivery.Signal) error {
	switch s {
	case delivery.SignalUnhealthy:
		return errFails
	case delivery.SignalNone:
		return errNone
	default:
		return nil
	}
}
