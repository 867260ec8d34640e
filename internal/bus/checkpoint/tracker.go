// Package checkpoint keeps the watermark of a partition: the offset up to which everything has been
// settled, and which may therefore be committed.
//
// The watermark is over the records that were read, in their order, and not over consecutive
// numbers: compaction and transaction markers leave gaps. A record may be settled long after later
// ones; the watermark stays at the oldest that is not settled.
//
// The package knows nothing of Kafka, of what a record is, or of when a commit is made. It has no
// goroutine and calls nothing back.
package checkpoint

import (
	"fmt"
	"sync"
)

// Entry names one record that was added to a Tracker. It means nothing to any other Tracker.
type Entry uint64

// Tracker is the watermark of one partition during one ownership of it. A partition that comes back
// to the same process gets a new one, which records of the old ownership that are settled late
// cannot move.
//
// Add, Skip and Committed belong to the one goroutine that fetches and the one that commits; Done
// may be called from any. All methods are safe together.
type Tracker struct {
	mu sync.Mutex
	// ring holds the entries first..next-1 at their number modulo its length, which is a power of
	// two. The entry first is never done: Done moves first past everything that is.
	ring        []slot
	first, next Entry
	// position is the next offset to read: every offset below it was added, or has no record for
	// us.
	position  int64
	committed int64
}

type slot struct {
	offset int64
	done   bool
}

// None is the committed position of a partition that has none: no offset is negative.
const None int64 = -1

// New returns a tracker that reads from position on. Committed is the position that the group is
// known to have, None if it has none; Watermark reports changes against it.
func New(position, committed int64) *Tracker {
	return &Tracker{ring: make([]slot, 64), position: position, committed: committed}
}

// Add registers the record at offset as in flight. Records come in the order of their offsets; an
// offset below the position is an error, because the watermark may have been committed beyond it
// already.
func (t *Tracker) Add(offset int64) (Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset < t.position {
		return 0, fmt.Errorf("add offset %d: the position is already %d", offset, t.position)
	}
	if int(t.next-t.first) == len(t.ring) {
		t.grow()
	}
	entry := t.next
	*t.at(entry) = slot{offset: offset}
	t.next++
	t.position = offset + 1
	return entry, nil
}

// Done settles an entry and reports whether the watermark moved. Settling it again, or an entry that
// was never added, changes nothing.
func (t *Tracker) Done(e Entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e < t.first || e >= t.next || t.at(e).done {
		return false
	}
	t.at(e).done = true
	if e != t.first {
		return false
	}
	for t.first < t.next && t.at(t.first).done {
		t.first++
	}
	return true
}

// Skip moves the position forward to next if there is no record for us in between (a gap, a
// marker, records that the broker has deleted). A position that is not ahead changes nothing. It
// reports whether the watermark moved, which it does only if nothing is in flight.
func (t *Tracker) Skip(next int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if next <= t.position {
		return false
	}
	t.position = next
	return t.first == t.next
}

// Watermark returns the next offset to commit, and whether it differs from what was committed last.
func (t *Tracker) Watermark() (next int64, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// All offsets below the oldest unsettled entry are settled or have no record; without such an
	// entry, all offsets below the position.
	next = t.position
	if t.first < t.next {
		next = t.at(t.first).offset
	}
	return next, next != t.committed
}

// Committed says that next has been committed. It does not change the watermark.
func (t *Tracker) Committed(next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed = next
}

// Span returns the number of records from the watermark to the last one added, including settled
// ones: those that would be read again if the process died now.
func (t *Tracker) Span() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int(t.next - t.first)
}

func (t *Tracker) at(e Entry) *slot { return &t.ring[int(e)&(len(t.ring)-1)] }

// grow is called with mu held if the ring is full.
func (t *Tracker) grow() {
	bigger := make([]slot, 2*len(t.ring))
	for e := t.first; e < t.next; e++ {
		bigger[int(e)&(len(bigger)-1)] = *t.at(e)
	}
	t.ring = bigger
}
