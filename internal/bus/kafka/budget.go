package kafka

import (
	"sync"
	"sync/atomic"
)

// budget is the number of bytes that the records of all partitions may take: those fetched and not
// released, and those that a running fetch may bring. Half of it is divided evenly and never lent,
// so a partition that holds nothing can always fetch; the other half goes to partitions with a
// backlog.
//
// A broker sends a batch whole even if it is larger than what was asked for, a compressed batch
// grows, and an event may become more bytes of deliveries than its record had. Such a partition is
// overdrawn: it neither fetches nor hands over until enough has been released. Each partition
// exceeds the budget by at most one batch and the deliveries of one event.
type budget struct {
	mu     sync.Mutex
	common int64 // left to lend; negative while a partition is overdrawn
	each   int64
}

func newBudget(bytes int64, partitions int) *budget {
	return &budget{common: bytes / 2, each: max(bytes/2/int64(max(partitions, 1)), fetchMin)}
}

// share is one partition's part of the budget. Only give may be called outside the partition's
// goroutine.
type share struct {
	budget   *budget
	held     atomic.Int64
	borrowed int64 // guarded by budget.mu
	// allowed is what may be held while records are handed over: all that was fetched, so that a
	// batch larger than the budget passes. Only the partition's goroutine uses it.
	allowed int64
}

// take reserves bytes for a fetch, with a backlog up to fetchMax if that much can be lent. It
// returns 0 if some of what is held must be released first.
func (s *share) take(backlog bool) int64 {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.settle()
	free := max(s.budget.each-s.held.Load(), 0)
	if s.held.Load() <= 0 {
		free = max(free, fetchMin)
	}
	if backlog && free < fetchMax {
		free += min(fetchMax-free, max(s.budget.common, 0))
	}
	if n := min(free, fetchMax); n >= fetchMin {
		s.held.Add(n)
		s.settle()
		return n
	}
	return 0
}

// overdrawn reports whether the records handed over have become larger than what was fetched and
// than the budget can give. It ends as records are released.
func (s *share) overdrawn() bool {
	if s.held.Load() <= s.allowed {
		return false
	}
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.settle()
	held := s.held.Load()
	if held > s.budget.each && s.budget.common < 0 {
		return true
	}
	s.allowed = held + fetchMin
	return false
}

// spent replaces a reservation by the size of the records that came.
func (s *share) spent(reserved, bytes int64) {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.allowed = s.held.Add(bytes - reserved)
	s.settle()
}

// give returns the bytes of a released record. Borrowed bytes go back at the partition's next take.
func (s *share) give(bytes int64) { s.held.Add(-bytes) }

// settle is called with budget.mu held: bytes beyond the partition's own part are borrowed.
func (s *share) settle() {
	borrowed := max(s.held.Load()-s.budget.each, 0)
	s.budget.common -= borrowed - s.borrowed
	s.borrowed = borrowed
}
