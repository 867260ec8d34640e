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
	// patience is how long a full lane may make its events wait without its endpoint taking anything.
	patience = 5 * time.Second
	// looksPerSecond bounds the work that one partition under pressure makes, however many rules it feeds.
	looksPerSecond = 10_000
)

// source is what is known of one partition: the lanes that its events went to.
type source struct {
	mu     sync.Mutex
	fed    map[delivery.Lane]*feed
	looked time.Time // when pressure last made somebody look at the lanes
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

// lanes returns the lanes that had work recently; none where it was asked for too often.
func (s *source) lanes(now time.Time) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Few lanes may be looked at as often as anybody likes: every 100 ms, that is.
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
	hanging             // all its places have been taken for a while without the endpoint taking anything
)

// load: a slow endpoint that works is not hanging, and neither is a lane that waits for a token.
func (l *lane) load(now time.Time) load {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fullSince.IsZero() && now.Sub(l.fullSince) >= patience && now.Sub(l.health.LastTaken) >= patience {
		return hanging
	}
	if l.fresh.len() > 0 || l.active >= l.pace.places() || !l.bucket.ready(now) {
		return busy
	}
	if reason, _ := l.barrier(now); reason != delivery.ReasonNone || l.breaker.State() != breaker.Closed {
		return busy
	}
	return idle
}

// Backpressure says that the window of a partition is full. Kafka is the queue: lanes that are full make their events wait, and that
// is right as long as nobody else suffers. Only when another lane that this partition feeds has nothing to do are the waiting
// deliveries of the full lanes made rows, which lets the window move on. Those of a lane whose endpoint hangs are made rows in any
// case: who else the partition feeds may stand behind them and not be known yet. Nothing is made a row beyond the park limit, unless
// the overflow is to be buried.
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
		// An endpoint that works is waited for at the park limit, also where the overflow is to be buried.
		if starving && !(d.DeadLetterOverflow && d.full(l)) {
			spill = append(spill, l)
		}
	}
	for _, l := range spill {
		d.spill(l, src, now)
	}
}

// spill makes rows of what waits in a lane and came from src. Flights whose bodies fit no row stay: for them memory is the only place.
func (d *Dispatcher) spill(l *lane, src *source, now time.Time) {
	l.mu.Lock()
	waits := l.fresh.len() > 0
	l.mu.Unlock()
	if !waits {
		return
	}
	if d.holds(l) {
		l.limited(now)
		return
	}
	maxBody := d.Queue.MaxBody()
	taken := l.takeFresh(func(f *flight) bool { return f.origin.src == src && len(f.delivery.Body) <= maxBody })
	for _, f := range taken {
		f.shelve(0, delivery.ReasonSpill)
	}
	d.metrics.spilled.Add(float64(len(taken)))
}
