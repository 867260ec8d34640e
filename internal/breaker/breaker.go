// Package breaker has the circuit breaker of an endpoint, for the lanes of webhooks and the rows of webfilters alike.
//
//	          8 failures in a row over 5 s           10 s
//	closed ─────────────────────────► open ─────────────► half-open ── probe fails ──► open
//	  ▲                                                    │    │
//	  └──────────────── probe works ───────────────────────┘    a probe that says nothing: half-open, for the next
//
// It decides nothing itself: whoever asks for its state leaves the endpoint alone. It has no goroutine and no lock.
package breaker

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// State is that of a breaker.
type State = gobreaker.State

// States of a breaker. Their numbers are those of the metrics: 0, 1 and 2.
const (
	Closed   = gobreaker.StateClosed
	HalfOpen = gobreaker.StateHalfOpen // one request at a time shows whether the endpoint works again
	Open     = gobreaker.StateOpen     // nothing is to be sent
)

const (
	// TripAfter failures in a row open a breaker.
	TripAfter = 8
	// TripTime is what must have passed from the first one's begin to the last one's end: a burst that meets a short restart shall not
	// cost OpenFor.
	TripTime = 5 * time.Second
	// OpenFor must pass before one request may show whether the endpoint works again.
	OpenFor = 10 * time.Second
)

// What gobreaker is told of a request; nobody else sees these.
var (
	errFails = errors.New("the endpoint fails")
	errNone  = errors.New("the request says nothing")
)

// Breaker is a circuit breaker. It is not safe for concurrent use: the lock of whoever owns it must be held for every call. gobreaker has a
// lock of its own, calls back under it, and turns an open breaker half-open only when it is called.
//
// While closed it hears of failures, and of the first success after one. What counts is the number of failures in a row, so the other
// successes would change nothing, and asking for each request would cost as much as a fifth of all else that is done for a
// delivery, and an allocation. While half-open every request needs a permit, and there is one: that of the probe.
type Breaker struct {
	gate   *gobreaker.TwoStepCircuitBreaker[struct{}]
	state  State     // as of the last call
	since  time.Time // while closed: the begin of the first failure in a row; zero where the last result was none
	worked time.Time // when a request last showed an endpoint that works
	round  uint32    // counts changes of state: results of requests begun before one say nothing after it

	probe  *Request    // the request under way while half-open
	permit func(error) // of probe; must be called, or no further probe is ever allowed
}

// Request is what a breaker knows of a request under way. It belongs to one breaker.
type Request struct{ round uint32 }

// New returns a closed breaker. changed, which may be nil, is called at each change of state; it must not call the breaker.
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

// Look returns the state at this moment.
func (b *Breaker) Look() State {
	if b.state == Open {
		b.gate.State() // half-open by now, perhaps
	}
	return b.state
}

// State returns the state as of the last call of another method. It costs nothing.
func (b *Breaker) State() State { return b.state }

// Probing tells whether the breaker is half-open with a request under way, beside which none may begin.
func (b *Breaker) Probing() bool { return b.probe != nil }

// Begin is called for each request that begins: not while the breaker is open or probing.
func (b *Breaker) Begin(r *Request) {
	r.round = b.round
	if b.state != HalfOpen || b.probe != nil {
		return
	}
	if permit, err := b.gate.Allow(); err == nil {
		b.probe, b.permit = r, permit
	}
}

// Note takes down what a request says that began at `began`.
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
		if b.worked.After(began) { // a request that hung meanwhile does not make a burst of failures a long one
			b.since = b.worked
		}
	}
	if permit, err := b.gate.Allow(); err == nil {
		permit(result(s))
	}
}

// End is called when a request has left, whether it was sent or not: a probe that came to nothing gives its permit back.
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
