package queue

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// QueueLimits bound what may wait as rows. Zero values stand for no limit.
type QueueLimits struct {
	RuleRows int   // rows of one rule
	Rows     int   // rows in all
	Bytes    int64 // of bodies, in all
}

// ledger estimates how much waits in each lane: what was measured, and what this process has added and ended since. What other replicas
// did since is not in it.
type ledger struct {
	limits QueueLimits

	mu         sync.RWMutex
	lanes      map[delivery.Lane]*account
	rows       int64 // of all lanes
	bytes      int64
	measuredAt time.Time // when measuring began, by this process's clock; zero before
	held       map[delivery.ID]heldRow
}

// account is one lane's.
type account struct {
	rows, bytes int64   // measured, own and queued
	own         []entry // since measuredAt, the oldest first
	queued      entry   // on the way into the database; its time is not used
}

// entry is what changed within about a second. A row that ends counts as -1.
type entry struct {
	from, at    time.Time // of the first and of the newest change
	rows, bytes int64
}

// heldRow is a row that this process is sending: if the result ends it, it waits no more.
type heldRow struct {
	lane  delivery.Lane
	bytes int64
	until time.Time
}

const (
	entrySpan  = time.Second
	maxEntries = 120
)

func newLedger(limits QueueLimits) *ledger {
	return &ledger{limits: limits, lanes: make(map[delivery.Lane]*account), held: make(map[delivery.ID]heldRow)}
}

// full tells whether the lane has as many rows waiting as may, or all lanes together have.
func (l *ledger) full(lane delivery.Lane) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if (l.limits.Rows > 0 && l.rows >= int64(l.limits.Rows)) || (l.limits.Bytes > 0 && l.bytes >= l.limits.Bytes) {
		return true
	}
	return l.lanes[lane].full(l.limits.RuleRows)
}

// laneFull tells whether the lane has as many rows waiting as may of one rule.
func (l *ledger) laneFull(lane delivery.Lane) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.lanes[lane].full(l.limits.RuleRows)
}

// full is called with the ledger's mu held; a nil account has no rows.
func (a *account) full(limit int) bool { return limit > 0 && a != nil && a.rows >= int64(limit) }

// used returns how much of the limit that is the nearest is used: 1 is all of it.
func (l *ledger) used() float64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var used float64
	if l.limits.Rows > 0 {
		used = max(used, float64(l.rows)/float64(l.limits.Rows))
	}
	if l.limits.Bytes > 0 {
		used = max(used, float64(l.bytes)/float64(l.limits.Bytes))
	}
	if l.limits.RuleRows > 0 {
		for _, a := range l.lanes {
			used = max(used, float64(a.rows)/float64(l.limits.RuleRows))
		}
	}
	return used
}

// queued notes a row on its way into the database.
func (l *ledger) queued(p *parking) {
	if l == nil || p.insert.State.Ended() {
		return
	}
	p.counted = entry{rows: 1, bytes: int64(len(p.insert.Body))}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(p.insert.Lane(), 1, p.counted.bytes)
}

// unqueued notes that a row will not be stored.
func (l *ledger) unqueued(p *parking) {
	if l == nil || p.counted.rows == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(p.insert.Lane(), -1, -p.counted.bytes)
}

// account is called with mu held.
func (l *ledger) account(lane delivery.Lane) *account {
	a := l.lanes[lane]
	if a == nil {
		a = &account{}
		l.lanes[lane] = a
	}
	return a
}

// queue is called with mu held.
func (l *ledger) queue(lane delivery.Lane, rows, bytes int64) {
	a := l.account(lane)
	a.queued.rows += rows
	a.queued.bytes += bytes
	l.count(a, rows, bytes)
}

// count is called with mu held.
func (l *ledger) count(a *account, rows, bytes int64) {
	a.rows += rows
	a.bytes += bytes
	l.rows += rows
	l.bytes += bytes
}

// inserted notes rows that were stored. A nil ledger notes nothing.
func (l *ledger) inserted(rows []parking) {
	if l == nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rows {
		in := &rows[i].insert
		if p := &rows[i]; p.counted.rows > 0 {
			l.queue(in.Lane(), -1, -p.counted.bytes)
		}
		if in.State.Ended() {
			continue
		}
		l.add(in.Lane(), now, 1, int64(len(in.Body)))
		if in.State == delivery.Leased {
			l.held[in.ID] = heldRow{in.Lane(), int64(len(in.Body)), now.Add(in.Delay)}
		}
	}
}

// claimed notes rows that this process is going to send.
func (l *ledger) claimed(rows []delivery.Row, until time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rows {
		l.held[rows[i].ID] = heldRow{rows[i].Lane(), int64(len(rows[i].Body)), until}
	}
}

// finished notes results that were written; those of lost IDs were not.
func (l *ledger) finished(updates []delivery.Update, lost []delivery.ID) {
	if l == nil {
		return
	}
	gone := make(map[delivery.ID]bool, len(lost))
	for _, id := range lost {
		gone[id] = true
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range updates {
		u := &updates[i]
		row, ok := l.held[u.ID]
		delete(l.held, u.ID)
		if ok && u.State.Ended() && !gone[u.ID] {
			l.add(row.lane, now, -1, -row.bytes)
		}
	}
}

// add is called with mu held.
func (l *ledger) add(lane delivery.Lane, at time.Time, rows, bytes int64) {
	a := l.account(lane)
	if n := len(a.own); n > 0 && (at.Sub(a.own[n-1].from) < entrySpan || n >= maxEntries) {
		a.own[n-1].at = at
		a.own[n-1].rows += rows
		a.own[n-1].bytes += bytes
	} else {
		a.own = append(a.own, entry{at, at, rows, bytes})
	}
	l.count(a, rows, bytes)
}

// read takes over what was measured, by whichever replica. asked is when this process began to read the records: a little too early
// a moment makes it count a row twice until the next measurement, a little too late one would make it forget one.
func (l *ledger) read(records delivery.LaneRecords, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if records.Measured {
		l.measuredAt = asked.Add(-records.MeasuredFor)
	}
	measured := make(map[delivery.Lane]delivery.LaneRecord, len(records.Lanes))
	for _, r := range records.Lanes {
		if r.Rows > 0 {
			measured[r.Lane] = r
		}
	}
	for lane := range measured {
		l.account(lane)
	}
	l.rows, l.bytes = 0, 0
	for lane, a := range l.lanes {
		r := measured[lane]
		a.rows, a.bytes = int64(r.Rows)+a.queued.rows, r.Bytes+a.queued.bytes
		kept := a.own[:0]
		for _, e := range a.own {
			if e.at.After(l.measuredAt) {
				kept = append(kept, e)
				a.rows += e.rows
				a.bytes += e.bytes
			}
		}
		a.own = kept
		if r.Rows == 0 && len(kept) == 0 && a.queued.rows == 0 {
			delete(l.lanes, lane)
			continue
		}
		l.rows += a.rows
		l.bytes += a.bytes
	}
	for id, row := range l.held { // results that never came
		if asked.After(row.until) {
			delete(l.held, id)
		}
	}
}
