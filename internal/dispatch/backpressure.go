package dispatch

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const (
	// recently is how long a lane that had work from a partition is expected to have some again.
	recently = time.Minute
	// seenEvery is how exactly that is known.
	seenEvery = 5 * time.Second
	// hangsAfter is how long a full lane may make its events wait without its endpoint taking
	// anything.
	hangsAfter = 5 * time.Second
	// looksPerSecond bounds the lanes looked at for one partition under backpressure, however many
	// it feeds.
	looksPerSecond = 10_000
)

// source is a partition: the lanes that its events went to.
type source struct {
	mu     sync.Mutex
	fed    map[delivery.Lane]*feed
	looked time.Time // when backpressure last had its lanes looked at
}

// feed is a lane that had work from a partition.
type feed struct {
	lane *lane
	at   time.Time // of the last event, seenEvery too early at most
}

// lane returns the lane of key, and notes that an event goes there. The caller holds mu.
func (s *source) lane(d *Dispatcher, key delivery.Lane, now time.Time) *lane {
	f := s.fed[key]
	if f == nil {
		f = &feed{lane: d.lane(key), at: now}
		s.fed[key] = f
	} else if now.Sub(f.at) > seenEvery {
		f.at = now
	}
	return f.lane
}

// lanes returns the lanes that had work recently; none if it was asked too often.
func (s *source) lanes(now time.Time) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Few lanes may be looked at each time, which is every 100 ms.
	if rest := time.Second * time.Duration(len(s.fed)) / looksPerSecond; rest > 100*time.Millisecond && now.Sub(s.looked) < rest {
		return nil
	}
	s.looked = now
	lanes := make([]*lane, 0, len(s.fed))
	for _, f := range s.fed {
		if now.Sub(f.at) <= recently {
			lanes = append(lanes, f.lane)
		}
	}
	return lanes
}

// prune forgets the lanes that had no work recently, and those in gone.
func (s *source) prune(now time.Time, gone map[*lane]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, f := range s.fed {
		if now.Sub(f.at) > recently || gone[f.lane] {
			delete(s.fed, key)
		}
	}
}

func (d *Dispatcher) source(key Source) *source {
	d.sourcesMu.Lock()
	defer d.sourcesMu.Unlock()
	s := d.sources[key]
	if s == nil {
		s = &source{fed: make(map[delivery.Lane]*feed)}
		d.sources[key] = s
	}
	return s
}

func (d *Dispatcher) allSources() []*source {
	d.sourcesMu.Lock()
	defer d.sourcesMu.Unlock()
	return slices.Collect(maps.Values(d.sources))
}

// forgetSources starts over: after a drain the partitions may be others.
func (d *Dispatcher) forgetSources() {
	d.sourcesMu.Lock()
	defer d.sourcesMu.Unlock()
	clear(d.sources)
}

// load is how much a lane has to do.
type load uint8

const (
	idle    load = iota // it could send more than it has
	busy                // it has as much as it can send at the moment, or may not send
	hanging             // it has been at its limit for a while without its endpoint taking anything
)

// load: a slow endpoint that works is not hanging, and neither is a lane that waits for a token.
func (l *lane) load(now time.Time) load {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fullSince.IsZero() && now.Sub(l.fullSince) >= hangsAfter && now.Sub(l.health.LastTaken) >= hangsAfter {
		return hanging
	}
	if l.firstTries() > 0 || l.line.Active() >= l.limit.now() || !l.bucket.ready(now) {
		return busy
	}
	if reason, _ := l.barrier(now); reason != delivery.ReasonNone || l.breaker.State() != breaker.Closed {
		return busy
	}
	return idle
}

// Backpressure says that the window of a partition is full. Kafka is the queue: lanes that are full
// make their events wait, and that is right as long as nobody else suffers. Only when another lane
// that this partition feeds has nothing to do are the waiting deliveries of the full lanes made
// rows, which lets the window move on. Those of a lane whose endpoint hangs are made rows in any
// case: lanes behind it may not be known yet. Nothing is made a row beyond the queue limit, unless
// overflow is dead-lettered. It does not block.
func (d *Dispatcher) Backpressure(from Source) {
	src := d.source(from)
	now := time.Now()
	var spill, full []*lane
	starving := false
	for _, l := range src.lanes(now) {
		switch l.load(now) {
		case idle:
			starving = true
		case busy:
			full = append(full, l)
		case hanging:
			spill = append(spill, l)
		}
	}
	for _, l := range full {
		// An endpoint that works is waited for at the queue limit, even if overflow is
		// dead-lettered.
		if starving && !(d.DeadLetterOverflow && d.full(l)) {
			spill = append(spill, l)
		}
	}
	for _, l := range spill {
		d.spill(l, src)
	}
}

// spill makes rows of the first tries that wait in a lane and came from src. Those whose bodies fit
// no row stay: they can only be in memory.
func (d *Dispatcher) spill(l *lane, src *source) {
	l.mu.Lock()
	waits := l.firstTries() > 0
	l.mu.Unlock()
	if !waits {
		return
	}
	if d.blocks(l) {
		l.limited()
		return
	}
	maxBody := d.Queue.MaxBody()
	taken := l.takeFirst(func(f *flight) bool { return f.origin.src == src && len(f.delivery.Body) <= maxBody })
	for _, f := range taken {
		f.shelve(0, delivery.ReasonSpill)
	}
	d.metrics.spilled.Add(float64(len(taken)))
}
