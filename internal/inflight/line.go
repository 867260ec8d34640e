package inflight

import "slices"

// Line is the items that wait for a slot, oldest first, and the number that have one. Claimed rows
// precede first tries, because their leases expire. The zero Line is empty. Its owner's lock guards
// it. An item is in it once at most.
type Line[T comparable] struct {
	rows, first        fifo[T]
	active, activeRows int
}

// Push puts an item in line: a claimed row or a first try.
func (l *Line[T]) Push(item T, claimed bool) { l.of(claimed).push(item) }

func (l *Line[T]) of(claimed bool) *fifo[T] {
	if claimed {
		return &l.rows
	}
	return &l.first
}

// Begin removes the next item from the line and gives it a slot. It returns false if none waits.
func (l *Line[T]) Begin() (item T, ok bool) {
	if item, ok = l.rows.pop(); ok {
		l.activeRows++
	} else if item, ok = l.first.pop(); !ok {
		return item, false
	}
	l.active++
	return item, true
}

// End frees an item's slot.
func (l *Line[T]) End(claimed bool) {
	l.active--
	if claimed {
		l.activeRows--
	}
}

// Leave removes an item from the line, and reports whether it was in line.
func (l *Line[T]) Leave(item T, claimed bool) bool {
	return len(l.of(claimed).take(func(other T) bool { return other == item })) > 0
}

// Active returns how many items have a slot.
func (l *Line[T]) Active() int { return l.active }

// Waiting returns how many first tries and claimed rows are in line.
func (l *Line[T]) Waiting() (first, rows int) { return l.first.len(), l.rows.len() }

// Rows returns how many claimed rows are in line or have a slot.
func (l *Line[T]) Rows() int { return l.rows.len() + l.activeRows }

// Empty reports whether nothing waits or has a slot.
func (l *Line[T]) Empty() bool { return l.rows.len()+l.first.len()+l.active == 0 }

// TakeRows removes the claimed rows from the line that match pick.
func (l *Line[T]) TakeRows(pick func(T) bool) []T { return l.rows.take(pick) }

// TakeFirst removes the first tries from the line that match pick.
func (l *Line[T]) TakeFirst(pick func(T) bool) []T { return l.first.take(pick) }

// fifo is a queue, oldest first. It is a slice because the garbage collector marks the items of a
// slice together, but those of a linked list one after the other: with thousands in line that took a
// third more of its time.
type fifo[T comparable] struct {
	items []T
	begin int // items before it are zero
}

func (q *fifo[T]) len() int { return len(q.items) - q.begin }

func (q *fifo[T]) push(item T) {
	if q.begin > 0 && len(q.items) == cap(q.items) {
		q.items, q.begin = slices.Delete(q.items, 0, q.begin), 0
	}
	q.items = append(q.items, item)
}

func (q *fifo[T]) pop() (item T, ok bool) {
	if q.len() == 0 {
		return item, false
	}
	q.items[q.begin], item = item, q.items[q.begin]
	if q.begin++; q.begin == len(q.items) {
		q.items, q.begin = q.items[:0], 0
	}
	return item, true
}

// take removes and returns the items that match pick; the rest stay in order.
func (q *fifo[T]) take(pick func(T) bool) (taken []T) {
	q.items = slices.DeleteFunc(slices.Delete(q.items, 0, q.begin), func(item T) bool {
		if pick(item) {
			taken = append(taken, item)
			return true
		}
		return false
	})
	q.begin = 0
	return taken
}
