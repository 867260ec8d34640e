package dispatch

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

const (
	lookEvery  = time.Second      // at all lanes
	pruneEvery = time.Minute      // what partitions fed
	unusedFor  = 10 * time.Minute // before the lane of a rule that is gone goes, too
)

// sweep sees to everything that is not begun by an event, a result or a claim.
func (d *Dispatcher) sweep() {
	tick := time.NewTicker(min(max(d.HandOff/5, 10*time.Millisecond), 100*time.Millisecond))
	defer tick.Stop()
	looked, pruned := time.Now(), time.Now()
	for {
		select {
		case <-d.stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		d.hurry(now)
		if now.Sub(looked) < lookEvery {
			continue
		}
		looked = now
		gone := d.look(now)
		if len(gone) > 0 || now.Sub(pruned) >= pruneEvery {
			pruned = now
			for _, s := range d.allSources() {
				s.prune(now, gone)
			}
		}
	}
}

// enlist has the sweeper look at a lane in which something is on its way. The caller holds l.mu.
func (d *Dispatcher) enlist(l *lane) {
	d.listMu.Lock()
	d.list = append(d.list, l)
	d.listMu.Unlock()
}

// hurry hands off the first tries that take too long, and gives claimed rows back that have waited too long for a slot: the
// cap of the process may keep them from one for longer than their lease. Given back only when their turn comes they would have
// been claimed again by then, and after a few rounds be taken for a crash loop.
func (d *Dispatcher) hurry(now time.Time) {
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

// overdue returns the first tries under way for handOff or longer, and takes out the claimed rows that wait and whose leases are too short
// for a request by now. listed is false where nothing is on its way in the lane: it leaves the sweeper's list.
func (l *lane) overdue(now time.Time, handOff time.Duration) (slow, stale []*flight, listed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	began, ends := now.Add(-handOff), now.Add(l.timeout+leaseMargin)
	for _, f := range l.trying {
		if !f.started.After(began) {
			slow = append(slow, f)
		}
	}
	// Claims come in order, so the first lease to run out is that of the head.
	for l.claimed.len() > 0 && l.claimed.items[l.claimed.head].until.Before(ends) {
		stale = append(stale, l.claimed.pop())
	}
	if len(stale) > 0 {
		l.d.metrics.queued.Sub(float64(len(stale)))
	}
	l.listed = l.waiting()+l.active > 0
	return slow, stale, l.listed
}

// look goes over all lanes: rules change, limits pass, breakers become half-open, and lanes whose rules are gone go as well. Those
// are returned.
func (d *Dispatcher) look(now time.Time) (gone map[*lane]bool) {
	limited := 0
	for _, l := range d.allLanes() {
		ruled, waits, atLimit := l.refresh(now)
		if atLimit && l.recheck(now) {
			limited++
		}
		if waits {
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

// refresh reads the lane's rule again. It tells whether there is one, whether anything is on its way in the lane, and whether
// something waits because of the park limit.
func (l *lane) refresh(now time.Time) (ruled, waits, atLimit bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ruled = l.adopt()
	l.barrier(now) // makes an open breaker half-open
	return ruled, l.waiting()+l.active+len(l.held) > 0, l.atLimit
}

// remove takes a lane out that has been unused for a while and whose rule is gone. Whoever still has a pointer to it sees that
// it is gone as soon as he has its lock.
func (d *Dispatcher) remove(l *lane, now time.Time) bool {
	d.lanesMu.Lock()
	defer d.lanesMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting()+l.active+len(l.held) > 0 || now.Sub(l.used) < unusedFor {
		return false
	}
	l.gone = true
	l.bucket.stop()
	delete(d.lanes, l.key)
	d.metrics.removed(l.series, l.breaker.State())
	return true
}
