package inflight

import "time"

// Turn is an item's place in a Line. It is part of the item, which is in one Line at most.
type Turn[T any] struct {
	Item T
	// Until is the end of a claimed row's lease; zero for a first try.
	Until time.Time

	in         *list[T] // nil while it is not in line
	prev, next *Turn[T]
}

// Claimed reports whether the item is a claimed row, not a first try.
func (t *Turn[T]) Claimed() bool { return !t.Until.IsZero() }

// InLine reports whether the item waits in its line.
func (t *Turn[T]) InLine() bool { return t.in != nil }

// Leave removes the item from its line, and reports whether it was in one.
func (t *Turn[T]) Leave() bool {
	if t.in == nil {
		return false
	}
	t.in.remove(t)
	return true
}

// Line is the items that wait for a slot, oldest first, and the number that have one. Claimed rows
// precede first tries, because their leases expire. The zero Line is empty. Its owner's lock guards
// it and its turns.
type Line[T any] struct {
	rows, first        list[T]
	active, activeRows int
}

// Push puts an item in line.
func (l *Line[T]) Push(t *Turn[T]) { l.of(t).push(t) }

func (l *Line[T]) of(t *Turn[T]) *list[T] {
	if t.Claimed() {
		return &l.rows
	}
	return &l.first
}

// Begin removes the next item from the line and gives it a slot; nil if none waits.
func (l *Line[T]) Begin() *Turn[T] {
	t := l.rows.head
	if t == nil {
		t = l.first.head
	}
	if t == nil {
		return nil
	}
	t.Leave()
	l.active++
	if t.Claimed() {
		l.activeRows++
	}
	return t
}

// End frees the item's slot.
func (l *Line[T]) End(t *Turn[T]) {
	l.active--
	if t.Claimed() {
		l.activeRows--
	}
}

// Active returns how many items have a slot.
func (l *Line[T]) Active() int { return l.active }

// Waiting returns how many first tries and claimed rows are in line.
func (l *Line[T]) Waiting() (first, rows int) { return l.first.n, l.rows.n }

// Rows returns how many claimed rows are in line or have a slot.
func (l *Line[T]) Rows() int { return l.rows.n + l.activeRows }

// Empty reports whether nothing waits or has a slot.
func (l *Line[T]) Empty() bool { return l.rows.n+l.first.n+l.active == 0 }

// TakeRows removes the claimed rows from the line.
func (l *Line[T]) TakeRows() []T { return l.rows.take(func(T) bool { return true }) }

// TakeFirst removes the first tries from the line that match pick.
func (l *Line[T]) TakeFirst(pick func(T) bool) []T { return l.first.take(pick) }

// TakeExpiring removes the claimed rows from the line whose leases end before the given time.
// Claims come in order, so the oldest ends first.
func (l *Line[T]) TakeExpiring(before time.Time) (taken []T) {
	for t := l.rows.head; t != nil && t.Until.Before(before); t = l.rows.head {
		l.rows.remove(t)
		taken = append(taken, t.Item)
	}
	return taken
}

// list is an intrusive list of turns, oldest first.
type list[T any] struct {
	head, tail *Turn[T]
	n          int
}

func (q *list[T]) push(t *Turn[T]) {
	t.in, t.prev = q, q.tail
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.next = t
	}
	q.tail = t
	q.n++
}

func (q *list[T]) remove(t *Turn[T]) {
	if t.prev == nil {
		q.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		q.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.in, t.prev, t.next = nil, nil, nil
	q.n--
}

// take removes and returns the items that match pick.
func (q *list[T]) take(pick func(T) bool) (taken []T) {
	for t := q.head; t != nil; {
		next := t.next
		if pick(t.Item) {
			q.remove(t)
			taken = append(taken, t.Item)
		}
		t = next
	}
	return taken
}
