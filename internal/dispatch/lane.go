package dispatch

import (
	"slices"
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// lane is the queue of one rule: what waits to be sent to its endpoint, and how many requests are under way.
type lane struct {
	d      *Dispatcher
	key    delivery.Lane
	series *ruleSeries // nil without per-rule metrics

	mu            sync.Mutex
	fresh         fifo      // first tries that wait
	claimed       fifo      // claimed rows that wait; they go first
	held          []parking // failed first tries that may not become rows; see hold.go
	trying        []*flight // first tries under way; a flight knows its place
	active        int       // requests under way, claimed ones included
	activeClaimed int
	pace          pace
	bucket        bucket
	breaker       *breaker.Breaker
	closedUntil   time.Time       // the endpoint asked for patience
	paused        bool            // the rule was, when last looked at
	url           string          // the rule's, when last looked at
	timeout       time.Duration   // of one request
	schedule      []time.Duration // of retries, where the rule has one; not to be changed
	policy        *delivery.Policy
	fullSince     time.Time // every place has been taken since; zero where one is free
	used          time.Time // when something last came or began
	health        delivery.LaneHealth
	logged        [logTopics]time.Time // when the lane last stood in the log
	hungry        bool                 // the claimer wants to know when there is room
	atLimit       bool                 // something waits because as many rows wait as may
	listed        bool                 // in the sweeper's list
	gone          bool                 // taken out of the dispatcher: another lane has its key, or will have

	inFew, inMany bool // waits for a slot; guarded by slots.mu
}

func newLane(d *Dispatcher, key delivery.Lane) *lane {
	l := &lane{d: d, key: key, used: time.Now(), pace: newPace(d.EndpointConcurrency), health: delivery.LaneHealth{Lane: key}}
	l.series = d.metrics.series(key)
	l.breaker = breaker.New(func(from, to breaker.State) {
		d.metrics.turned(l.series, from, to)
		if to == breaker.Closed {
			l.pace.restart()
		}
	})
	l.bucket.set(d.EndpointRate)
	l.timeout, l.policy = d.Timeout, d.Policy
	l.adopt()
	return l
}

// adopt takes over what the rule says by now of its limits and of being paused. The caller holds mu, or has the only pointer to l.
// A rule that is not active leaves its limits as they are: nothing is sent. adopt tells whether the rule is active or paused.
func (l *lane) adopt() bool {
	if r := l.d.Rules.Active(l.key); r != nil {
		if l.url != "" && l.url != r.URL { // what the old endpoint asked for and answered is not the new one's
			l.closedUntil, l.health.Gone = time.Time{}, 0
		}
		l.url = r.URL
		limits := l.d.limits(r)
		l.pace.limit, l.timeout = limits.Concurrency, limits.Timeout
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

// live locks the lane and returns it: where it has been taken out meanwhile, the one that has its key now.
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

// push queues a first try. Where nothing may be sent it becomes a row at once: waiting in memory could hold up the partition for hours.
func (l *lane) push(f *flight, now time.Time) {
	l = l.live()
	f.lane, l.used = l, now
	reason, wait := l.barrier(now)
	if reason == delivery.ReasonNone && l.breaker.State() == breaker.HalfOpen && (l.breaker.Probing() || l.waiting() > 0) {
		reason = delivery.ReasonCircuitOpen // there is a probe already
	}
	if reason != delivery.ReasonNone {
		l.mu.Unlock()
		f.shelve(wait, reason)
		return
	}
	l.enqueue(f)
	l.mu.Unlock()
	l.pump(now)
}

func (l *lane) pushClaimed(f *flight, now time.Time) {
	l = l.live()
	f.lane, l.used = l, now
	reason, wait := l.barrier(now)
	if reason != delivery.ReasonNone || l.d.closing.Load() {
		l.mu.Unlock()
		l.d.Queue.Settle(delivery.Return(f.row, wait))
		return
	}
	l.enqueue(f)
	l.mu.Unlock()
	l.pump(now)
}

// enqueue: the caller holds mu.
func (l *lane) enqueue(f *flight) {
	if f.origin == nil { // f.row says the same, but is guarded by f.mu
		l.claimed.push(f)
	} else {
		l.fresh.push(f)
	}
	l.d.metrics.queued.Inc()
	if !l.listed {
		l.listed = true
		l.d.enlist(l)
	}
}

// waiting: the caller holds mu.
func (l *lane) waiting() int { return l.fresh.len() + l.claimed.len() }

// pump starts workers while the lane has work and room and the process has slots. It tells whether it started any.
func (l *lane) pump(now time.Time) (started bool) {
	for {
		l.mu.Lock()
		if !l.canStart(now) || !l.d.slots.acquire(l) {
			l.mu.Unlock()
			return started
		}
		f := l.start(now)
		l.d.workers.Go(func() { l.work(f) }) // with mu held: Close looks at every lane before it waits for the workers
		l.mu.Unlock()
		started = true
	}
}

// work sends f and then what else waits in the lane, on one slot.
func (l *lane) work(f *flight) {
	l.d.metrics.inFlight.Inc()
	defer l.d.metrics.inFlight.Dec()
	for f != nil {
		l.d.metrics.queued.Dec()
		f.run()
		f = l.next(f)
	}
}

// next ends f's place and returns the flight that takes its slot. With none, or with other lanes waiting for a slot, the slot
// is given back and next returns nil.
func (l *lane) next(f *flight) *flight {
	l.mu.Lock()
	now := time.Now()
	l.active--
	if f.origin == nil {
		l.activeClaimed--
	}
	l.forget(f)
	l.breaker.End(&f.request)
	wake := l.hungry && l.claimed.len()+l.activeClaimed <= l.claimCap(now)/2
	if wake {
		l.hungry = false
	}
	var following *flight
	if !l.d.slots.contended(l.active) && l.canStart(now) {
		following = l.start(now)
	}
	more := following != nil && l.canStart(now) // the lane has got more places than it had
	if l.active < l.pace.places() {
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
		l.pump(now) // where others waited for a slot they went first, and now this lane may wait in turn
	}
	return following
}

// canStart tells whether a request may begin. Where only a token is missing it sees to it that the lane is pumped again when there is
// one: a lane without a token holds no slot. The caller holds mu.
func (l *lane) canStart(now time.Time) bool {
	if l.waiting() == 0 || l.d.closing.Load() {
		return false
	}
	if reason, _ := l.barrier(now); reason != delivery.ReasonNone {
		return false
	}
	if l.breaker.State() == breaker.HalfOpen {
		// Requests begun before it opened may hang yet and have all places. The probe waits for none of them.
		if l.breaker.Probing() {
			return false
		}
	} else if l.active >= l.pace.places() {
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

// start takes the next flight off the queues. The caller holds mu and a slot, and canStart.
func (l *lane) start(now time.Time) *flight {
	l.used = now
	l.bucket.take(now)
	if l.active++; l.active >= l.pace.places() && l.fullSince.IsZero() {
		l.fullSince = now
	}
	f := l.claimed.pop()
	if f != nil {
		l.activeClaimed++
	} else {
		f = l.fresh.pop()
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

// note takes down what an attempt says of the endpoint, right when it has ended: its row may take its time. One of the class expression
// says something of the rule instead: what failed.
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
		l.pace.taken()
	case a.Class == delivery.ClassTimeout:
		l.pace.hung()
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
		l.switched(before, after, now)
	}
	if wait > 0 || after == breaker.Open && before != after {
		l.clear(now)
	}
}

// judge returns what follows an attempt of a delivery that had `before` counted attempts.
func (l *lane) judge(before int, a *delivery.Attempt) delivery.Decision {
	l.mu.Lock()
	policy := l.policy
	l.mu.Unlock()
	return policy.Decide(before, a)
}

// lease returns how long the row of a delivery is invisible to others while it is sent.
func (l *lane) lease() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return delivery.Lease(l.timeout)
}

// room returns how many claimed rows the lane can take and for how long, and asks to be told when it can take more. The rule is read again
// here: rows that were claimed for a shorter timeout than it has by now would be given back unused.
func (l *lane) room(now time.Time) (rows int, lease time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adopt()
	return l.space(now), delivery.Lease(l.timeout)
}

// space is how many claimed rows the lane can take. The caller holds mu.
func (l *lane) space(now time.Time) int {
	if reason, _ := l.barrier(now); reason != delivery.ReasonNone {
		return 0
	}
	l.hungry = true
	if l.breaker.State() == breaker.HalfOpen {
		if l.breaker.Probing() || l.waiting() > 0 {
			return 0
		}
		return 1
	}
	return max(0, l.claimCap(now)-l.claimed.len()-l.activeClaimed)
}

// claimCap is how many claimed rows the lane may hold. The caller holds mu.
func (l *lane) claimCap(now time.Time) int {
	places := 2 * l.pace.places()
	if l.fresh.len() > 0 {
		places = max(1, l.pace.places()/4)
	}
	// What waits for a token must get it long before its lease has run out.
	return min(places, l.bucket.within(now, delivery.Lease(l.timeout)/4))
}

// takeFresh takes the first tries that wait and that pick picks out of the lane.
func (l *lane) takeFresh(pick func(*flight) bool) []*flight {
	l.mu.Lock()
	taken := l.fresh.take(pick)
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(taken)))
	return taken
}

// end returns the claimed rows that wait. Nothing begins any more: the dispatcher is closing.
func (l *lane) end() []*flight {
	l.mu.Lock()
	taken := l.claimed.take(func(*flight) bool { return true })
	l.bucket.stop()
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(taken)))
	return taken
}
