package dispatch

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// deathEvery is how often a lane logs that a delivery is dead, at most.
const deathEvery = time.Minute

// lane is the queue of one rule: what waits to be sent to its endpoint, and how many requests are under way.
type lane struct {
	d   *Dispatcher
	key delivery.Lane

	mu            sync.Mutex
	limit         int
	fresh         fifo      // first tries that wait
	claimed       fifo      // claimed rows that wait; they go first
	trying        []*flight // first tries under way, at most limit; a flight knows its place
	active        int       // requests under way, claimed ones included
	activeClaimed int
	closedUntil   time.Time // the endpoint asked for patience
	fullSince     time.Time // every place has been taken since; zero where one is free
	lastTaken     time.Time // when the endpoint last took a delivery
	deathLogged   time.Time // when a dead delivery last stood in the log
	hungry        bool      // the claimer wants to know when there is room

	inLine bool // waits for a slot; guarded by slots.mu
}

// push queues a first try. A lane that its endpoint has closed makes it a row at once: waiting in memory could hold up the
// partition for hours.
func (l *lane) push(f *flight, now time.Time) {
	l.mu.Lock()
	if wait := l.closedUntil.Sub(now); wait > 0 {
		l.mu.Unlock()
		f.park(delivery.Queue(f.delivery, wait, delivery.ReasonRetryAfter))
		return
	}
	l.fresh.push(f)
	l.mu.Unlock()
	l.d.metrics.queued.Inc()
	l.pump()
}

func (l *lane) pushClaimed(f *flight) {
	l.mu.Lock()
	l.claimed.push(f)
	l.mu.Unlock()
	l.d.metrics.queued.Inc()
	l.pump()
}

// pump starts workers while the lane has work and room and the process has slots. It tells whether it started any.
func (l *lane) pump() (started bool) {
	for {
		l.mu.Lock()
		if !l.canStart() || !l.d.slots.acquire(l) {
			l.mu.Unlock()
			return started
		}
		f := l.start()
		l.mu.Unlock()
		started = true
		l.d.workers.Go(func() { l.work(f) })
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
	l.active--
	if f.origin == nil { // f.row says the same, but is guarded by f.mu
		l.activeClaimed--
	}
	l.forget(f)
	wake := l.hungry && l.claimed.len()+l.activeClaimed <= l.claimCap()/2
	if wake {
		l.hungry = false
	}
	var following *flight
	if l.canStart() && !l.d.slots.contended() {
		following = l.start()
	} else {
		l.fullSince = time.Time{}
	}
	l.mu.Unlock()
	if wake {
		l.d.RoomWanted()
	}
	if following == nil {
		l.d.slots.release()
		l.pump() // others went first where they waited; now this lane may wait in turn
	}
	return following
}

// canStart: the caller holds mu.
func (l *lane) canStart() bool {
	return l.active < l.limit && l.fresh.len()+l.claimed.len() > 0
}

// start takes the next flight off the queues. The caller holds mu and a slot.
func (l *lane) start() *flight {
	now := time.Now()
	if l.active++; l.active == l.limit && l.fullSince.IsZero() {
		l.fullSince = now
	}
	if f := l.claimed.pop(); f != nil {
		l.activeClaimed++
		return f
	}
	f := l.fresh.pop()
	f.started = now
	f.place = len(l.trying)
	l.trying = append(l.trying, f)
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

// slow returns the first tries that began before `before`.
func (l *lane) slow(before time.Time) []*flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	var slow []*flight
	for _, f := range l.trying {
		if !f.started.After(before) {
			slow = append(slow, f)
		}
	}
	return slow
}

// room returns how many claimed rows the lane can take, and asks to be told when it can take more.
func (l *lane) room(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closedUntil.After(now) {
		return 0
	}
	l.hungry = true
	return max(0, l.claimCap()-l.claimed.len()-l.activeClaimed)
}

// claimCap: the caller holds mu.
func (l *lane) claimCap() int {
	if l.fresh.len() > 0 {
		return max(1, l.limit/4)
	}
	return 2 * l.limit
}

// closedFor returns how long the endpoint still wants to be left alone.
func (l *lane) closedFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, time.Until(l.closedUntil))
}

// idle tells whether the lane could send more than it has.
func (l *lane) idle(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active < l.limit && l.fresh.len() == 0 && !l.closedUntil.After(now)
}

// died logs a dead delivery, at most one a minute: the counter has the others.
func (l *lane) died(d *delivery.Delivery, v delivery.Verdict, status int) {
	now := time.Now()
	l.mu.Lock()
	quiet := now.Sub(l.deathLogged) < deathEvery
	if !quiet {
		l.deathLogged = now
	}
	l.mu.Unlock()
	if quiet {
		return
	}
	l.d.Logger.Warn("delivery is dead; others of this rule within a minute are only counted", "webhook_id", d.ID.String(),
		"rule_id", d.RuleID, "event_type", d.EventType, "reason", string(v.Reason), "status", status, "attempts", v.Attempts)
}

// taken notes that the endpoint took a delivery.
func (l *lane) taken() {
	now := time.Now()
	l.mu.Lock()
	l.lastTaken = now
	l.mu.Unlock()
}

// hanging tells whether all places of the lane have been taken for a while without the endpoint taking anything. A slow endpoint that
// works is not hanging.
func (l *lane) hanging(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.fullSince.IsZero() && now.Sub(l.fullSince) >= patience && now.Sub(l.lastTaken) >= patience
}

// shut closes the lane for a time: what waits becomes rows that are due then.
func (l *lane) shut(wait time.Duration) {
	until := time.Now().Add(wait)
	l.mu.Lock()
	if until.Before(l.closedUntil) {
		until = l.closedUntil
	}
	l.closedUntil = until
	l.mu.Unlock()
	for _, f := range l.takeFresh(nil) {
		f.park(delivery.Queue(f.delivery, wait, delivery.ReasonRetryAfter))
	}
	for _, f := range l.takeClaimed() {
		l.d.Queue.Settle(delivery.Return(f.row, wait))
	}
}

// takeFresh takes first tries that wait out of the lane: those of one source, or all where src is nil. Flights whose bodies do not
// fit a row stay: for them memory is the only place.
func (l *lane) takeFresh(src *source) []*flight {
	maxBody := l.d.Queue.MaxBody()
	l.mu.Lock()
	taken := l.fresh.take(func(f *flight) bool {
		return (src == nil || f.origin.src == src) && len(f.delivery.Body) <= maxBody
	})
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(taken)))
	return taken
}

func (l *lane) takeClaimed() []*flight {
	l.mu.Lock()
	taken := l.claimed.take(func(*flight) bool { return true })
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(taken)))
	return taken
}

// takeStale takes claimed rows that wait out of the lane whose leases run out before `before`.
func (l *lane) takeStale(before time.Time) []*flight {
	l.mu.Lock()
	var stale []*flight
	// Claims come in order, so the first lease to run out is that of the head.
	for l.claimed.len() > 0 && l.claimed.items[l.claimed.head].until.Before(before) {
		stale = append(stale, l.claimed.pop())
	}
	l.mu.Unlock()
	l.d.metrics.queued.Sub(float64(len(stale)))
	return stale
}

// fifo is a queue of flights, oldest first. The zero fifo is empty.
type fifo struct {
	items []*flight
	head  int
}

func (q *fifo) len() int { return len(q.items) - q.head }

func (q *fifo) push(f *flight) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, f)
}

func (q *fifo) pop() *flight {
	if q.len() == 0 {
		return nil
	}
	f := q.items[q.head]
	q.items[q.head] = nil
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return f
}

// take removes and returns what pick picks; the order of the rest stays.
func (q *fifo) take(pick func(*flight) bool) []*flight {
	var taken []*flight
	kept := q.items[:0]
	for _, f := range q.items[q.head:] {
		if pick(f) {
			taken = append(taken, f)
		} else {
			kept = append(kept, f)
		}
	}
	clear(q.items[len(kept):])
	q.items, q.head = kept, 0
	return taken
}

// slots caps the requests under way in the process, and keeps the lanes that wait for a slot in order.
type slots struct {
	mu      sync.Mutex
	free    int
	waiting []*lane
}

// acquire takes a slot for l, or puts l in line. The caller holds l.mu.
func (s *slots) acquire(l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free > 0 {
		s.free--
		return true
	}
	if !l.inLine {
		l.inLine = true
		s.waiting = append(s.waiting, l)
	}
	return false
}

// contended tells whether lanes wait for a slot.
func (s *slots) contended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0
}

// release gives a slot back and lets the first lane in line that still has work use it. The caller holds no lane's mu.
func (s *slots) release() {
	s.mu.Lock()
	s.free++
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 || s.free == 0 {
			s.mu.Unlock()
			return
		}
		l := s.waiting[0]
		s.waiting[0], s.waiting = nil, s.waiting[1:]
		l.inLine = false
		s.mu.Unlock()
		if l.pump() {
			return
		}
	}
}
