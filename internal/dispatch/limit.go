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
	firstLimit = breaker.TripAfter // so that one timeout can open the breaker of a hanging endpoint
	leastLimit = 4
)

// limit is an adaptive concurrency limit (AIMD): a hanging endpoint holds each request for a whole
// timeout, so the limit starts low, rises by one per accepted delivery, and is halved by each
// timeout. The lane's mu guards it.
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

// restart starts with the least, as the breaker has closed after a single success.
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

// arm schedules a call of refilled, which must set armed to false, for the next token.
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

// limits returns a rule's limits, with the settings as defaults, except for the retry schedule.
func (o *Options) limits(r *rule.Rule) rule.Limits {
	own := r.Limits
	own.Concurrency = cmp.Or(own.Concurrency, o.EndpointConcurrency)
	own.Rate = cmp.Or(own.Rate, o.EndpointRate)
	own.Timeout = cmp.Or(own.Timeout, o.Timeout)
	return own
}
