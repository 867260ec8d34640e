package dispatch

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
)

// lane is the in-memory queue of one rule, with its requests in flight.
type lane struct {
	d      *Dispatcher
	key    delivery.Lane
	series *ruleSeries               // nil without per-rule metrics
	logs   [logTopics]rate.Sometimes // they have locks of their own

	mu          sync.Mutex
	line        inflight.Line[*flight]
	blocked     []blocked // failed first tries at the queue limit; see queuelimit.go
	trying      []*flight // first tries under way; a flight knows its place
	limit       limit
	bucket      bucket
	breaker     *breaker.Breaker
	closedUntil time.Time       // by Retry-After
	paused      bool            // the rule was, when last looked at
	url         string          // the rule's, when last looked at
	timeout     time.Duration   // of one request
	schedule    []time.Duration // of retries, if the rule has one; not to be changed
	policy      *delivery.Policy
	fullSince   time.Time // since when the limit is reached; zero if it is not
	used        time.Time // when something last came or began
	health      delivery.LaneHealth
	wantsRoom   bool // the claimer wants to know when there is room
	atLimit     bool // deliveries wait because of the queue limit
	listed      bool // in the sweeper's list
	gone        bool // removed from the dispatcher: a new lane has, or will have, its key

	inFew, inMany bool // waits for a slot; guarded by slots.mu
}

func newLane(d *Dispatcher, key delivery.Lane) *lane {
	l := &lane{d: d, key: key, used: time.Now(), limit: newLimit(d.EndpointConcurrency), health: delivery.LaneHealth{Lane: key}}
	for topic := range l.logs {
		l.logs[topic].Interval = logEvery
	}
	l.series = d.metrics.series(key)
	l.breaker = breaker.New(func(from, to breaker.State) {
		d.metrics.turned(l.series, from, to)
		if to == breaker.Closed {
			l.limit.restart()
		}
	})
	l.bucket.set(d.EndpointRate)
	l.timeout, l.policy = d.Timeout, d.Policy
	l.readRule()
	return l
}

// readRule reads the rule's limits and whether it is paused, and reports whether the rule is active
// or paused. A rule that is not active leaves the limits as they are: nothing is sent. The caller
// holds mu, or has the only pointer to l.
func (l *lane) readRule() bool {
	if r := l.d.Rules.Active(l.key); r != nil {
		if l.url != "" && l.url != r.URL { // a new endpoint
			l.closedUntil, l.health.Gone = time.Time{}, 0
		}
		l.url = r.URL
		limits := l.d.limits(r)
		l.limit.most, l.timeout = limits.Concurrency, limits.Timeout
		l.bucket.set(limits.Rate)
		if !slices.Equal(l.schedule, limits.RetrySchedule) {
			l.schedule, l.policy = limits.RetrySchedule, l.d.Policy.With(limits.RetrySchedule)
		}
		l.paused = false
		return true
	}
	l.paused = l.d.Rules.Paused(l.key)
	return l.paused
}

// live locks the lane and returns it; if it has been taken out meanwhile, the one that has its key
// now.
func (l *lane) live() *lane {
	for {
		l.mu.Lock()
		if !l.gone {
			return l
		}
		l.mu.Unlock()
		l = l.d.lane(l.key)
	}
}

// push puts a first try in line, or stores it as a row if the lane may not send: in memory it could
// hold its partition for hours.
func (l *lane) push(f *flight, now time.Time) {
	l = l.live()
	f.lane, l.used = l, now
	reason, wait := l.barrier(now)
	if reason == delivery.ReasonNone && l.breaker.State() == breaker.HalfOpen && (l.breaker.Probing() || l.waiting() > 0) {
		reason = delivery.ReasonCircuitOpen // there is a probe already
	}
	if reason != delivery.ReasonNone {
		l.mu.Unlock()
		f.enqueueUntried(wait, reason)
		return
	}
	l.join(f)
	l.mu.Unlock()
	l.pump(now)
}

func (l *lane) pushClaimed(f *flight, now time.Time) {
	l = l.live()
	f.lane, l.used = l, now
	reason, wait := l.barrier(now)
	if reason != delivery.ReasonNone || l.d.stopping.Load() {
		l.mu.Unlock()
		l.d.Queue.Settle(delivery.Return(f.row, wait))
		return
	}
	l.join(f)
	l.mu.Unlock()
	l.pump(now)
}

// join puts a flight in line. The caller holds mu.
func (l *lane) join(f *flight) {
	l.line.Push(f, f.row != nil)
	l.d.metrics.queued.Inc()
	if !l.listed {
		l.listed = true
		l.d.enlist(l)
	}
}

// waiting returns how many deliveries are in line. The caller holds mu.
func (l *lane) waiting() int {
	first, rows := l.line.Waiting()
	return first + rows
}

// firstTries returns how many first tries are in line. The caller holds mu.
func (l *lane) firstTries() int {
	first, _ := l.line.Waiting()
	return first
}

// pump starts workers while the lane has work and room and the process has slots. It reports
// whether it started any.
func (l *lane) pump(now time.Time) (started bool) {
	for {
		l.mu.Lock()
		if !l.canStart(now) || !l.d.slots.acquire(l) {
			l.mu.Unlock()
			return started
		}
		f := l.start(now)
		l.d.workers.Go(func() { l.work(f) }) // with mu held: Stop looks at every lane before it waits for the workers
		l.mu.Unlock()
		started = true
	}
}

// work sends f and then the lane's next deliveries, on one slot.
func (l *lane) work(f *flight) {
	l.d.metrics.inFlight.Inc()
	defer l.d.metrics.inFlight.Dec()
	for f != nil {
		l.d.metrics.queued.Dec()
		f.run()
		f = l.next(f)
	}
}

// next ends f's request and returns the flight that takes over its slot. Without one, or if other
// lanes wait for a slot, it frees the slot and returns nil.
func (l *lane) next(f *flight) *flight {
	l.mu.Lock()
	now := time.Now()
	l.line.End(f.row != nil)
	l.forget(f)
	l.breaker.End(&f.request)
	wake := l.wantsRoom && l.line.Rows() <= l.rowLimit(now)/2
	if wake {
		l.wantsRoom = false
	}
	var following *flight
	if !l.d.slots.contended(l.line.Active()) && l.canStart(now) {
		following = l.start(now)
	}
	more := following != nil && l.canStart(now) // the limit has risen
	if l.line.Active() < l.limit.now() {
		l.fullSince = time.Time{}
	} else if l.fullSince.IsZero() {
		l.fullSince = now
	}
	l.mu.Unlock()
	if wake {
		l.d.RoomWanted()
	}
	if following == nil {
		l.d.slots.release(now)
	}
	if following == nil || more {
		l.pump(now) // lanes that waited for a slot went first, and now this one may wait in turn
	}
	return following
}

// canStart reports whether a request may begin. If only a token is missing, the lane is pumped
// again when there is one: it holds no slot meanwhile. The caller holds mu.
func (l *lane) canStart(now time.Time) bool {
	if l.waiting() == 0 || l.d.stopping.Load() {
		return false
	}
	if reason, _ := l.barrier(now); reason != delivery.ReasonNone {
		return false
	}
	if l.breaker.State() == breaker.HalfOpen {
		// The probe ignores the limit: requests from before may still hang.
		if l.breaker.Probing() {
			return false
		}
	} else if l.line.Active() >= l.limit.now() {
		return false
	}
	if !l.bucket.ready(now) {
		l.bucket.arm(now, l.refilled)
		return false
	}
	return true
}

// refilled is called when there should be a token again.
func (l *lane) refilled() {
	l.mu.Lock()
	l.bucket.armed = false
	l.mu.Unlock()
	l.pump(time.Now())
}

// start takes the next flight out of the line. The caller holds mu and a slot, and canStart.
func (l *lane) start(now time.Time) *flight {
	l.used = now
	l.bucket.take(now)
	f, _ := l.line.Begin()
	if l.line.Active() >= l.limit.now() && l.fullSince.IsZero() {
		l.fullSince = now
	}
	if f.origin != nil {
		f.started = now
		f.place = len(l.trying)
		l.trying = append(l.trying, f)
	}
	l.breaker.Begin(&f.request)
	return f
}

// forget takes f out of the first tries under way. The caller holds mu.
func (l *lane) forget(f *flight) {
	if f.origin == nil {
		return
	}
	last := len(l.trying) - 1
	l.trying[f.place] = l.trying[last]
	l.trying[f.place].place = f.place
	l.trying[last] = nil
	l.trying = l.trying[:last]
}

// note records what an attempt says about the endpoint, or about the rule if it failed to render.
// It is called as soon as the attempt ends: writing its row may take a while.
func (l *lane) note(f *flight, a *delivery.Attempt, what delivery.RenderFailure) {
	if a.Class == delivery.ClassCancelled {
		return
	}
	now := time.Now()
	l.mu.Lock()
	if a.Class == delivery.ClassExpression {
		l.health.NoteRenderFailure(what)
	} else {
		l.health.Note(a, now)
	}
	switch {
	case a.OK():
		l.limit.raise()
	case a.Class == delivery.ClassTimeout:
		l.limit.lower()
	}
	wait := a.PutOff()
	if until := now.Add(wait); wait > 0 && until.After(l.closedUntil) { // a longer wait stays
		l.closedUntil = until
	}
	before := l.breaker.State()
	l.breaker.Note(&f.request, a.Signal(), now.Add(-a.Duration))
	after := l.breaker.State()
	l.mu.Unlock()
	if before != after {
		l.switched(before, after)
	}
	if wait > 0 || after == breaker.Open && before != after {
		l.clear(now)
	}
}

// decide returns what follows an attempt of a delivery that had `before` counted attempts.
func (l *lane) decide(before int, a *delivery.Attempt) delivery.Decision {
	l.mu.Lock()
	policy := l.policy
	l.mu.Unlock()
	return policy.Decide(before, a)
}

// requestTimeout returns the longest that one request takes, as last read from the rule.
func (l *lane) requestTimeout() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.timeout
}

// room returns how many claimed rows the lane can take and for how long, and requests a wake-up
// when it can take more. It reads the rule again: a lease for an outdated, shorter timeout would be
// returned unused.
func (l *lane) room(now time.Time) (rows int, lease time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readRule()
	return l.space(now), delivery.Lease(l.timeout)
}

// space is how many claimed rows the lane can take. The caller holds mu.
func (l *lane) space(now time.Time) int {
	if reason, _ := l.barrier(now); reason != delivery.ReasonNone {
		return 0
	}
	l.wantsRoom = true
	if l.breaker.State() == breaker.HalfOpen {
		if l.breaker.Probing() || l.waiting() > 0 {
			return 0
		}
		return 1
	}
	return max(0, l.rowLimit(now)-l.line.Rows())
}

// rowLimit is how many claimed rows the lane may hold. The caller holds mu.
func (l *lane) rowLimit(now time.Time) int {
	most := 2 * l.limit.now()
	if l.firstTries() > 0 {
		most = max(1, l.limit.now()/4)
	}
	// A row that waits for a token must get it long before its lease has run out.
	return min(most, l.bucket.within(now, delivery.Lease(l.timeout)/4))
}

// takeFirst takes the first tries out of the lane that wait and that pick picks.
func (l *lane) takeFirst(pick func(*flight) bool) []*flight {
	l.mu.Lock()
	taken := l.line.TakeFirst(pick)
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(taken)))
	return taken
}

// end returns the claimed rows that wait. Nothing begins any more: the dispatcher is stopping.
func (l *lane) end() []*flight {
	l.mu.Lock()
	taken := l.line.TakeRows(everyFlight)
	l.bucket.stop()
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(taken)))
	return taken
}
