package dispatch

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
