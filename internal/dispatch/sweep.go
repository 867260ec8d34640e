package dispatch

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/inflight"
)

const (
	checkEvery = time.Second      // all lanes
	pruneEvery = time.Minute      // the lanes that partitions feed
	unusedFor  = 10 * time.Minute // until the lane of a rule that is gone is removed
)

// sweep does the periodic work until Stop.
func (d *Dispatcher) sweep() {
	tick := time.NewTicker(min(max(d.HandOff/5, 10*time.Millisecond), 100*time.Millisecond))
	defer tick.Stop()
	checked, pruned := time.Now(), time.Now()
	for {
		select {
		case <-d.sweeping:
			return
		case <-tick.C:
		}
		now := time.Now()
		d.handOffSlow(now)
		if now.Sub(checked) < checkEvery {
			continue
		}
		checked = now
		gone := d.checkLanes(now)
		if len(gone) > 0 || now.Sub(pruned) >= pruneEvery {
			pruned = now
			for _, s := range d.allSources() {
				s.prune(now, gone)
			}
		}
	}
}

// enlist has the sweeper look at a lane that has deliveries in flight. The caller holds l.mu.
func (d *Dispatcher) enlist(l *lane) {
	d.listMu.Lock()
	d.list = append(d.list, l)
	d.listMu.Unlock()
}

// handOffSlow hands off slow first tries, and returns claimed rows that have waited too long for a
// slot. Returned only when their turn comes, others would have claimed them by then, which in the
// end looks like a crash loop.
func (d *Dispatcher) handOffSlow(now time.Time) {
	d.listMu.Lock()
	lanes := d.list
	d.list = nil
	d.listMu.Unlock()
	kept := lanes[:0]
	for _, l := range lanes {
		slow, stale, listed := l.overdue(now, d.HandOff)
		if listed {
			kept = append(kept, l)
		}
		if len(slow) > 0 && !d.full(l) {
			for _, f := range slow {
				f.handOff(delivery.ReasonHandOff)
			}
		}
		for _, f := range stale {
			d.Queue.Settle(delivery.Return(f.row, 0))
		}
	}
	d.listMu.Lock()
	d.list = append(kept, d.list...)
	d.listMu.Unlock()
}

// overdue returns the first tries in flight for handOff or longer, and removes the waiting claimed
// rows whose lease has become too short. listed is false if nothing is in flight.
func (l *lane) overdue(now time.Time, handOff time.Duration) (slow, stale []*flight, listed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := now.Add(-handOff)
	for _, f := range l.trying {
		if !f.started.After(began) {
			slow = append(slow, f)
		}
	}
	last := now.Add(l.timeout + inflight.LeaseMargin)
	stale = l.line.TakeRows(func(f *flight) bool { return f.until.Before(last) })
	if len(stale) > 0 {
		l.d.metrics.queued.Sub(float64(len(stale)))
	}
	l.listed = !l.line.Empty()
	return slow, stale, l.listed
}

// checkLanes goes over all lanes: rules change, waits end, breakers become half-open, and lanes
// whose rules are gone are removed. It returns those.
func (d *Dispatcher) checkLanes(now time.Time) (gone map[*lane]bool) {
	limited := 0
	for _, l := range d.allLanes() {
		ruled, inFlight, atLimit := l.refresh(now)
		if atLimit && l.recheck(now) {
			limited++
		}
		if inFlight {
			l.clear(now)
			l.pump(now)
		} else if !ruled && d.remove(l, now) {
			if gone == nil {
				gone = make(map[*lane]bool)
			}
			gone[l] = true
		}
	}
	d.metrics.limited.Set(float64(limited))
	return gone
}

// refresh reads the lane's rule again. It reports whether there is one, whether the lane has
// deliveries in flight, and whether some of them wait because of the queue limit.
func (l *lane) refresh(now time.Time) (ruled, inFlight, atLimit bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ruled = l.readRule()
	l.barrier(now) // makes an open breaker half-open
	return ruled, l.inFlight(), l.atLimit
}

// inFlight reports whether deliveries wait or are under way. The caller holds mu.
func (l *lane) inFlight() bool { return !l.line.Empty() || len(l.blocked) > 0 }

// remove takes a lane out that has been unused for a while and whose rule is gone. Holders of a
// stale pointer see `gone` once they lock it.
func (d *Dispatcher) remove(l *lane, now time.Time) bool {
	d.lanesMu.Lock()
	defer d.lanesMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inFlight() || now.Sub(l.used) < unusedFor {
		return false
	}
	l.gone = true
	l.bucket.stop()
	delete(d.lanes, l.key)
	d.metrics.removed(l.series, l.breaker.State())
	return true
}
