package delivery

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of what operators and endpoints ask for.
const (
	// MaxRetryAfter is the longest time that an endpoint can ask to be left alone.
	MaxRetryAfter = 24 * time.Hour
	// MaxRetryDelay bounds a delay of a retry schedule: with its jitter it must end before 14 days,
	// when rows that nobody touches expire.
	MaxRetryDelay = 11 * 24 * time.Hour
	// MinRate is the lowest rate in requests a second. A lower one is a mistake: rows would expire.
	MinRate = 0.001
)

// Jitter is the share by which a delay of the schedule is moved up or down, so that deliveries that
// failed together do not come back together.
const Jitter = 0.2

// crashLoopClaims is how much more often a row may be claimed than attempted. More means that its claimers die before
// they can write a result.
const crashLoopClaims = 5

// Lease returns how long a row stays invisible to others while it is being sent: long enough to wait for a slot that is
// busy for one timeout, to send for another, and to write the result.
func Lease(timeout time.Duration) time.Duration { return max(time.Minute, 2*timeout+15*time.Second) }

// Policy decides what follows an attempt. It is immutable and safe for concurrent use as far as random is.
type Policy struct {
	schedule []time.Duration
	random   func() float64
}

// NewPolicy returns a policy with one delay for each retry. random returns numbers in [0, 1) and must be safe for concurrent use.
func NewPolicy(schedule []time.Duration, random func() float64) (*Policy, error) {
	if len(schedule) == 0 {
		return nil, errors.New("retry schedule is empty: give at least one delay, such as 5s")
	}
	for i, d := range schedule {
		// A delay of nothing would send a dead endpoint the same body in a tight loop.
		if d <= 0 {
			return nil, fmt.Errorf("retry schedule: delay %d is %v: it must be above 0", i+1, d)
		}
	}
	if random == nil {
		return nil, errors.New("retry policy needs a source of random numbers")
	}
	return &Policy{schedule: append([]time.Duration(nil), schedule...), random: random}, nil
}

// With returns the policy for a schedule of its own, p itself where that is empty. Its delays must be above 0: whoever reads schedules
// checks them.
func (p *Policy) With(schedule []time.Duration) *Policy {
	if len(schedule) == 0 {
		return p
	}
	return &Policy{schedule: slices.Clone(schedule), random: p.random}
}

// Decision is what follows an attempt.
type Decision struct {
	// State is Delivered, Pending, Dead or Halted.
	State State
	// Delay is the time until a Pending delivery is tried again.
	Delay time.Duration
	// Attempts is how many attempts count so far.
	Attempts int
	// Counted tells whether this one does. One that the endpoint put off does not.
	Counted bool
	Reason  Reason
}

// Decide returns what follows attempt a of a delivery that had `before` counted attempts.
func (p *Policy) Decide(before int, a *Attempt) Decision {
	v := Decision{State: Pending, Attempts: before + 1, Counted: true, Reason: reasonOf(a)}
	retryAfter := min(max(a.RetryAfter, 0), MaxRetryAfter)
	switch {
	case a.OK():
		v.State, v.Reason = Delivered, ReasonNone
		return v
	case a.Status == 410:
		v.State, v.Reason = Dead, ReasonGone
		return v
	case a.Class == ClassFiltered:
		v.State, v.Attempts, v.Counted = Halted, before, false
		return v
	case a.Final:
		v.State = Dead
		return v
	case a.Class == ClassCancelled:
		v.Attempts, v.Counted, v.Reason = before, false, ReasonDrain
		return v
	case a.PutOff() > 0:
		v.Attempts, v.Counted = before, false
		v.Reason, v.Delay = ReasonRetryAfter, retryAfter
		return v
	case before >= len(p.schedule):
		v.State, v.Reason = Dead, ReasonExhausted
		return v
	}
	v.Delay = max(p.jittered(p.schedule[before]), retryAfter)
	return v
}

// PutOff returns how long the endpoint asked that nothing at all be sent to it, MaxRetryAfter at most; 0 where it did not. Such an attempt
// does not count.
func (a *Attempt) PutOff() time.Duration {
	if a.Status != 429 && a.Status != 503 {
		return 0
	}
	return min(max(a.RetryAfter, 0), MaxRetryAfter)
}

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
