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
	recently       = time.Minute     // how long a lane counts as fed by a partition
	seenEvery      = 5 * time.Second // precision of recently
	hangsAfter     = 5 * time.Second // how long a full lane may wait for a success of its endpoint
	looksPerSecond = 10_000          // lanes checked per partition under backpressure
)

// source is a partition: the lanes that its events went to.
type source struct {
	mu     sync.Mutex
	fed    map[delivery.Lane]*feed
	looked time.Time // when backpressure last checked its lanes
}

// feed is a lane that had work from a partition.
type feed struct {
	lane *lane
	at   time.Time // of the last event, up to seenEvery too early
}

// lane returns the lane of key, and records that an event goes there. The caller holds mu.
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

// lanes returns the lanes that had work recently; none if called too often.
func (s *source) lanes(now time.Time) []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Few lanes may be checked each time, which is every 100 ms.
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

// forgetSources starts over: after a drain there may be other partitions.
func (d *Dispatcher) forgetSources() {
	d.sourcesMu.Lock()
	defer d.sourcesMu.Unlock()
	clear(d.sources)
}

// load is how much a lane has to do.
type load uint8

const (
	idle    load = iota // it could send more
	busy                // it is at its limit, or may not send
	hanging             // it has been at its limit for a while without a success
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

// Backpressure reports that the window of a partition is full. Kafka is the queue, so events of
// full lanes may wait as long as no other lane suffers. Only if another lane fed by this partition
// is idle are the waiting deliveries of full lanes stored as rows, which lets the window advance;
// those of a hanging endpoint always are, as lanes behind it may not be known yet. No rows are
// added beyond the queue limit, unless overflow is dead-lettered. It does not block.
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
		// At the queue limit wait for a working endpoint, even if overflow is dead-lettered.
		if starving && !(d.DeadLetterOverflow && d.full(l)) {
			spill = append(spill, l)
		}
	}
	for _, l := range spill {
		d.spill(l, src)
	}
}

// spill stores a lane's waiting first tries from src as rows. Those whose bodies do not fit stay.
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
		f.enqueueUntried(0, delivery.ReasonSpill)
	}
	d.metrics.spilled.Add(float64(len(taken)))
}
