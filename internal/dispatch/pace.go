package dispatch

import (
	"cmp"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// The places of a lane, where its limit is not below.
const (
	// To begin with: no fewer than failures that open a breaker, so that an endpoint that hangs is known after one timeout.
	firstPlaces = breaker.TripAfter
	leastPlaces = 4 // however little its endpoint answers
)

// pace is how many requests a lane may have under way. Nobody knows how an endpoint answers before it has, and one that hangs keeps
// each place for a whole timeout: so a lane begins with few places, gets one more for each delivery taken, and loses half of them
// for each request that got no answer in time. The lane's mu guards it.
type pace struct {
	limit int // the rule's; at least 1
	grown int // what the endpoint has earned; it may be above a limit that was lowered
}

func newPace(limit int) pace { return pace{limit: limit, grown: firstPlaces} }

func (p *pace) places() int { return min(p.grown, p.limit) }

func (p *pace) taken() {
	if p.grown < p.limit {
		p.grown++
	}
}

func (p *pace) hung() { p.grown = max(p.places()/2, leastPlaces) }

// restart begins again with the least: the breaker has closed after a single success.
func (p *pace) restart() { p.grown = leastPlaces }

// leastRefill keeps a very fast bucket from timers that fire without end.
const leastRefill = time.Millisecond

// bucket lets requests begin at a rate. The lane's mu guards it; the zero bucket lets everything pass.
type bucket struct {
	tokens *rate.Limiter // nil: no limit
	timer  *time.Timer   // of arm
	armed  bool
}

// set makes perSecond the rate, 0 for none. A bucket of another rate begins full: with as much as one second gives.
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

// ready tells whether a request may begin now.
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

// limits returns the limits of a rule, with the settings' in place of those that it leaves open. A schedule that it leaves open stays so.
func (o *Options) limits(r *rule.Rule) rule.Limits {
	own := r.Limits
	own.Concurrency = cmp.Or(own.Concurrency, o.EndpointConcurrency)
	own.Rate = cmp.Or(own.Rate, o.EndpointRate)
	own.Timeout = cmp.Or(own.Timeout, o.Timeout)
	return own
}
