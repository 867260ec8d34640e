package dispatch

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// recently is how long a lane that had work from a partition is expected to have some again.
const recently = time.Minute

// patience is how long a full lane may make its events wait without its endpoint taking anything.
const patience = 5 * time.Second

// source is what is known of one partition: the lanes that its events went to.
type source struct {
	mu   sync.Mutex
	seen map[*lane]time.Time // last time that an event went there
}

func (s *source) saw(l *lane, now time.Time) {
	s.mu.Lock()
	s.seen[l] = now
	s.mu.Unlock()
}

// lanes returns the lanes that had work recently, and forgets the others.
func (s *source) lanes(now time.Time) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	lanes := make([]*lane, 0, len(s.seen))
	for l, at := range s.seen {
		if now.Sub(at) > recently {
			delete(s.seen, l)
			continue
		}
		lanes = append(lanes, l)
	}
	return lanes
}

func (d *Dispatcher) source(key Source) *source {
	d.sourcesMu.Lock()
	defer d.sourcesMu.Unlock()
	s := d.sources[key]
	if s == nil {
		s = &source{seen: make(map[*lane]time.Time)}
		d.sources[key] = s
	}
	return s
}

// forgetSources starts over: after a drain the partitions may be others.
func (d *Dispatcher) forgetSources() {
	d.sourcesMu.Lock()
	defer d.sourcesMu.Unlock()
	clear(d.sources)
}

// Pressed says that the window of a partition is full. Kafka is the queue: lanes that are full make their events wait, and that
// is right as long as nobody else suffers. Only when another lane that this partition feeds has nothing to do are the waiting
// deliveries of the full lanes made rows, which lets the window move on. Those of a lane whose endpoint hangs are made rows in any
// case: who else the partition feeds may stand behind them and not be known yet.
func (d *Dispatcher) Pressed(from Source) {
	src := d.source(from)
	now := time.Now()
	var full, hanging []*lane
	starving := false
	for _, l := range src.lanes(now) {
		switch {
		case l.idle(now):
			starving = true
		case l.hanging(now):
			hanging = append(hanging, l)
		default:
			full = append(full, l)
		}
	}
	if !starving {
		full = nil
	}
	for _, l := range append(hanging, full...) {
		taken := l.takeFresh(src)
		for _, f := range taken {
			f.park(delivery.Queue(f.delivery, 0, delivery.ReasonSpill))
		}
		d.metrics.spilled.Add(float64(len(taken)))
	}
}

// sweep hands off the first tries that take too long, and gives claimed rows back that have waited too long for a slot: the
// cap of the process may keep them from one for longer than their lease. Given back only when their turn comes they would have
// been claimed again by then, and after a few rounds be taken for a crash loop.
func (d *Dispatcher) sweep() {
	tick := time.NewTicker(min(max(d.HandOff/5, 10*time.Millisecond), 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-d.stop:
			return
		case now := <-tick.C:
			for _, l := range d.allLanes() {
				for _, f := range l.slow(now.Add(-d.HandOff)) {
					f.handOff(delivery.ReasonHandOff)
				}
				for _, f := range l.takeStale(now.Add(d.Timeout + leaseMargin)) {
					d.Queue.Settle(delivery.Return(f.row, 0))
				}
			}
		}
	}
}
