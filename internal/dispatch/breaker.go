package dispatch

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const (
	// tripAfter failures in a row open a breaker: no more than a lane begins with, so that an endpoint that hangs is known after one timeout.
	tripAfter = firstPlaces
	tripTime  = 5 * time.Second  // from the first one's begin to the last one's end: a burst that meets a short restart shall not cost openFor
	openFor   = 10 * time.Second // before one request may show whether the endpoint works again
)

// What gobreaker is told of a request; nobody else sees these.
var (
	errFails = errors.New("the endpoint fails")
	errNone  = errors.New("the request says nothing")
)

// breaker is the circuit breaker of a lane. The lane's mu guards it, and is held whenever gobreaker is called: gobreaker has a lock of its
// own, calls back under it, and turns an open breaker half-open only when it is called.
//
// While closed it hears of failures, and of the first success after one. What counts is the number of failures in a row, so the other
// successes would change nothing, and asking for each request would cost as much as a fifth of all else that is done for a
// delivery here, and an allocation. While half-open every request needs a permit, and there is one: that of the probe.
type breaker struct {
	gate   *gobreaker.TwoStepCircuitBreaker[struct{}]
	state  gobreaker.State // as of the last call
	since  time.Time       // while closed: the begin of the first failure in a row; zero where the last result was none
	worked time.Time       // when a request last showed an endpoint that works
	round  uint32          // counts changes of state: results of requests begun before one say nothing after it

	probe  *flight     // the request under way while half-open
	permit func(error) // of probe; must be called, or no further probe is ever allowed
}

// newBreaker returns a closed breaker. changed is called, with the lane's mu held, at each change of state.
func newBreaker(changed func(from, to gobreaker.State)) *breaker {
	b := &breaker{}
	b.gate = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= tripAfter && time.Since(b.since) >= tripTime
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNone) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			b.state, b.since = to, time.Time{}
			b.round++
			changed(from, to)
		},
	})
	return b
}

// look returns the state at this moment.
func (b *breaker) look() gobreaker.State {
	if b.state == gobreaker.StateOpen {
		b.gate.State() // half-open by now, perhaps
	}
	return b.state
}

// begin is called for each request that begins.
func (b *breaker) begin(f *flight) {
	f.round = b.round
	if b.state != gobreaker.StateHalfOpen || b.probe != nil {
		return
	}
	if permit, err := b.gate.Allow(); err == nil {
		b.probe, b.permit = f, permit
	}
}

// note takes down what a request says that began at `began`.
func (b *breaker) note(f *flight, s delivery.Sign, began time.Time) {
	if b.probe == f {
		permit := b.permit
		b.probe, b.permit = nil, nil
		permit(result(s))
		return
	}
	if s == delivery.SignWorks {
		b.worked = time.Now()
	}
	if b.state != gobreaker.StateClosed || f.round != b.round || s == delivery.SignNone || s == delivery.SignWorks && b.since.IsZero() {
		return
	}
	switch {
	case s == delivery.SignWorks:
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

// end is called when a flight leaves its place, sent or not: a probe that came to nothing gives its permit back.
func (b *breaker) end(f *flight) {
	if b.probe == f {
		b.note(f, delivery.SignNone, time.Time{})
	}
}

func result(s delivery.Sign) error {
	switch s {
	case delivery.SignFails:
		return errFails
	case delivery.SignNone:
		return errNone
	default:
		return nil
	}
}
