package delivery

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of settings and of what endpoints may ask for.
const (
	MaxRetryAfter = 24 * time.Hour      // longest Retry-After that is respected
	MaxRetryDelay = 11 * 24 * time.Hour // of a retry schedule; with jitter below 14 days, when untouched rows expire
	MinRate       = 0.001               // requests a second; with fewer, rows would expire
)

// Jitter is the fraction by which a delay of the schedule is varied, so that deliveries that failed
// together are not retried together.
const Jitter = 0.2

// crashLoopClaims is how many more claims than attempts a row may have. Beyond that, the processes
// that claim it must be dying before they can write a result.
const crashLoopClaims = 5

// Lease returns how long to lease a row for sending: up to one timeout waiting for a slot, one
// sending, and some time to write the result.
func Lease(timeout time.Duration) time.Duration { return max(time.Minute, 2*timeout+15*time.Second) }

// Policy decides what follows an attempt. It is immutable, and safe for concurrent use if random is.
type Policy struct {
	schedule []time.Duration
	random   func() float64
}

// NewPolicy returns a policy with one delay per retry. random returns numbers in [0, 1).
func NewPolicy(schedule []time.Duration, random func() float64) (*Policy, error) {
	if len(schedule) == 0 {
		return nil, errors.New("retry schedule is empty: give at least one delay, such as 5s")
	}
	for i, d := range schedule {
		if d <= 0 {
			return nil, fmt.Errorf("retry schedule: delay %d is %v: it must be above 0, or retries loop", i+1, d)
		}
	}
	if random == nil {
		return nil, errors.New("retry policy needs a source of random numbers")
	}
	return &Policy{schedule: slices.Clone(schedule), random: random}, nil
}

// With returns the policy with another schedule, whose delays must be above 0; p itself if it is
// empty.
func (p *Policy) With(schedule []time.Duration) *Policy {
	if len(schedule) == 0 {
		return p
	}
	return &Policy{schedule: slices.Clone(schedule), random: p.random}
}

// Decision is what follows an attempt.
type Decision struct {
	State    State         // Delivered, Pending, Dead or Halted
	Delay    time.Duration // until a Pending delivery is retried
	Attempts int           // counted attempts so far
	Counted  bool          // this attempt counts; one that the endpoint deferred does not
	Reason   Reason
}

// Decide returns what follows attempt a of a delivery with `before` counted attempts.
func (p *Policy) Decide(before int, a *Attempt) Decision {
	v := Decision{State: Pending, Attempts: before + 1, Counted: true, Reason: reasonOf(a)}
	switch {
	case a.OK():
		v.State, v.Reason = Delivered, ReasonNone
	case a.Status == 410:
		v.State, v.Reason = Dead, ReasonGone
	case a.Class == ClassFiltered:
		v.State, v.Attempts, v.Counted = Halted, before, false
	case a.Final:
		v.State = Dead
	case a.Class == ClassCancelled:
		v.Attempts, v.Counted, v.Reason = before, false, ReasonDrain
	case a.PutOff() > 0:
		v.Attempts, v.Counted, v.Reason, v.Delay = before, false, ReasonRetryAfter, a.PutOff()
	case before >= len(p.schedule):
		v.State, v.Reason = Dead, ReasonExhausted
	default:
		v.Delay = max(p.jittered(p.schedule[before]), a.retryAfter())
	}
	return v
}

// PutOff returns how long the endpoint wants no requests at all, up to MaxRetryAfter; 0 if it did
// not say. Such an attempt does not count.
func (a *Attempt) PutOff() time.Duration {
	if a.Status != 429 && a.Status != 503 {
		return 0
	}
	return a.retryAfter()
}

func (a *Attempt) retryAfter() time.Duration { return min(max(a.RetryAfter, 0), MaxRetryAfter) }

func (p *Policy) jittered(d time.Duration) time.Duration {
	return d + time.Duration(float64(d)*Jitter*(2*p.random()-1))
}

func reasonOf(a *Attempt) Reason {
	switch {
	case a.Class == ClassEgress:
		return ReasonEgressDenied
	case a.Class == ClassRequest:
		return ReasonUnsendable
	case a.Class == ClassExpression:
		return ReasonExpression
	case a.Class == ClassFiltered:
		return ReasonFiltered
	case a.Class != "":
		return ReasonError
	}
	return ReasonStatus
}
