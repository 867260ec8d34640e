package queue

import "time"

// throttle lets the first of many like troubles be logged at once and then one line a minute, with the number of those that it stands
// for. It is for one goroutine.
type throttle struct {
	last  time.Time
	count int
}

// line counts n troubles more, and tells whether a line is due and how many it stands for.
func (t *throttle) line(n int) (count int, due bool) {
	t.count += n
	now := time.Now()
	if !t.last.IsZero() && now.Sub(t.last) < time.Minute {
		return 0, false
	}
	count, t.last, t.count = t.count, now, 0
	return count, true
}
