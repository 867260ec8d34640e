package dispatch

import (
	"sync"
	"sync/atomic"
	"time"
)

// fewRequests is how many requests make a lane eligible for the reserve.
const fewRequests = firstLimit

// slots caps the process's requests in flight, and keeps the lanes that wait for a slot in order.
//
// The last eighth is reserved for lanes with few requests. Otherwise endpoints that worked well and
// then hang, all with high limits, would take every slot until their timeouts.
type slots struct {
	reserve int

	mu   sync.Mutex
	free int
	few  waiters // lanes with few requests under way; they go first
	many waiters
}

// waiters are lanes that wait for a slot, in order. A lane is in each of the two once at most; by
// the time its turn comes it may have nothing left to send, or be in the other as well.
type waiters struct {
	lanes []*lane
	n     atomic.Int32 // len(lanes), to be read without the lock
}

// newSlots makes total slots for lanes of up to perLane requests. One lane alone always gets that
// many.
func newSlots(total, perLane int) slots {
	return slots{free: total, reserve: min(total/8, max(total-perLane, 0))}
}

func (q *waiters) push(l *lane) {
	q.lanes = append(q.lanes, l)
	q.n.Store(int32(len(q.lanes)))
}

func (q *waiters) pop() *lane {
	l := q.lanes[0]
	q.lanes[0], q.lanes = nil, q.lanes[1:]
	q.n.Store(int32(len(q.lanes)))
	return l
}

// acquire takes a slot for l, or has l wait for one. The caller holds l.mu.
func (s *slots) acquire(l *lane) bool {
	few := l.line.Active() < fewRequests
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.free > s.reserve, few && s.free > 0:
		s.free--
		return true
	case few && !l.inFew:
		l.inFew = true
		s.few.push(l)
	case !few && !l.inMany:
		l.inMany = true
		s.many.push(l)
	}
	return false
}

// contended reports whether lanes wait for a slot that a lane with `active` requests under way
// should leave to them.
func (s *slots) contended(active int) bool {
	return s.few.n.Load() > 0 || active >= fewRequests && s.many.n.Load() > 0
}

// release gives a slot back and lets the first lane that waits and still has work use it. The
// caller holds no lane's mu.
func (s *slots) release(now time.Time) {
	s.mu.Lock()
	s.free++
	s.mu.Unlock()
	for {
		l := s.first()
		if l == nil || l.pump(now) {
			return
		}
	}
}

// first takes out the lane that is to have the next slot; nil if none waits, or there is no slot
// for it.
func (s *slots) first() (l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.free > 0 && len(s.few.lanes) > 0:
		l = s.few.pop()
		l.inFew = false
	case s.free > s.reserve && len(s.many.lanes) > 0:
		l = s.many.pop()
		l.inMany = false
	}
	return l
}
