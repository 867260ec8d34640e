package dispatch

import (
	"cmp"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// The adaptive limit of a lane, unless the rule's own is lower.
const (
	// At first: no lower than the failures that open a breaker, so that an endpoint that hangs is
	// known after one timeout.
	firstLimit = breaker.TripAfter
	leastLimit = 4 // however badly its endpoint answers
)

// limit is an adaptive concurrency limit: how many requests a lane may have under way. Nobody knows
// how an endpoint answers before it has, and one that hangs keeps each request for a whole timeout.
// So the limit begins low, rises by one with each delivery taken, and is halved by each request
// that got no answer in time (additive increase, multiplicative decrease). The lane's mu guards it.
type limit struct {
	most     int // the rule's; at least 1
	adaptive int // it may be above a most that was lowered
}

func newLimit(most int) limit { return limit{most: most, adaptive: firstLimit} }

// now returns how many requests may be under way.
func (l *limit) now() int { return min(l.adaptive, l.most) }

// raise notes a delivery that was taken.
func (l *limit) raise() {
	if l.adaptive < l.most {
		l.adaptive++
	}
}

// lower notes a request that got no answer in time.
func (l *limit) lower() { l.adaptive = max(l.now()/2, leastLimit) }

// restart begins again with the least: the breaker has closed after a single success.
func (l *limit) restart() { l.adaptive = leastLimit }

// leastRefill keeps a very fast bucket from timers that fire without end.
const leastRefill = time.Millisecond

// bucket lets requests begin at a rate. The lane's mu guards it; the zero bucket lets everything
// pass.
type bucket struct {
	tokens *rate.Limiter // nil: no limit
	timer  *time.Timer   // of arm
	armed  bool
}

// set makes perSecond the rate, 0 for none. A bucket of another rate begins full: with the tokens
// of one second.
func (b *bucket) set(perSecond float64) {
	if perSecond == b.rate() {
		return
	}
	b.stop()
	b.tokens = nil
	if perSecond > 0 {
		b.tokens = rate.NewLimiter(rate.Limit(perSecond), int(max(1, math.Ceil(min(perSecond, math.MaxInt32)))))
	}
}

func (b *bucket) rate() float64 {
	if b.tokens == nil {
		return 0
	}
	return float64(b.tokens.Limit())
}

// ready reports whether a request may begin now.
func (b *bucket) ready(now time.Time) bool { return b.tokens == nil || b.tokens.TokensAt(now) >= 1 }

// take uses the token that ready has seen.
func (b *bucket) take(now time.Time) {
	if b.tokens != nil {
		b.tokens.AllowN(now, 1)
	}
}

// arm has refilled called once when the next token is there; it is to set armed to false.
func (b *bucket) arm(now time.Time, refilled func()) {
	if b.armed {
		return
	}
	b.armed = true
	missing := 1 - b.tokens.TokensAt(now)
	wait := max(time.Duration(math.Ceil(min(missing/b.rate(), 3600)*float64(time.Second))), leastRefill)
	b.timer = time.AfterFunc(wait, refilled)
}

func (b *bucket) stop() {
	if b.armed {
		b.timer.Stop()
		b.armed = false
	}
}

// within returns how many requests can begin in the time given, from now on.
func (b *bucket) within(now time.Time, d time.Duration) int {
	if b.tokens == nil {
		return math.MaxInt
	}
	return int(min(max(b.tokens.TokensAt(now), 0)+b.rate()*d.Seconds(), math.MaxInt32))
}

// limits returns the limits of a rule, with the settings in place of those that it leaves open. A
// retry schedule that it leaves open stays so.
func (o *Options) limits(r *rule.Rule) rule.Limits {
	own := r.Limits
	own.Concurrency = cmp.Or(own.Concurrency, o.EndpointConcurrency)
	own.Rate = cmp.Or(own.Rate, o.EndpointRate)
	own.Timeout = cmp.Or(own.Timeout, o.Timeout)
	return own
}
