package queue

import (
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Limits bound the waiting rows. Zero means no limit.
type Limits struct {
	RuleRows int   // of one rule
	Rows     int   // of all rules
	Bytes    int64 // of the bodies of all rules
}

// ledger estimates what waits in each lane: the last measurement plus what this process has added
// and ended since. Changes by other replicas since are unknown. The methods of a nil ledger that
// record changes do nothing.
type ledger struct {
	limits Limits

	mu         sync.RWMutex
	lanes      map[delivery.Lane]*account
	rows       int64 // of all lanes
	bytes      int64
	measuredAt time.Time // when measuring began, by this process's clock; zero before
	sending    map[delivery.ID]sendingRow
}

// account is what waits in one lane.
type account struct {
	rows, bytes int64   // measured, own and queued
	own         []entry // since measuredAt, oldest first
	queued      entry   // being inserted; has no times
}

// entry is the changes of about a second. A row that ended counts as -1.
type entry struct {
	from, at    time.Time // the first and last change
	rows, bytes int64
}

// sendingRow is a row that this process is sending. Once its result ends it, it no longer waits.
type sendingRow struct {
	lane  delivery.Lane
	bytes int64
	until time.Time
}

const (
	entrySpan  = time.Second
	maxEntries = 120
)

func newLedger(limits Limits) *ledger {
	return &ledger{limits: limits, lanes: make(map[delivery.Lane]*account), sending: make(map[delivery.ID]sendingRow)}
}

// full reports whether the lane, or the queue as a whole, is at its limit.
func (l *ledger) full(lane delivery.Lane) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if (l.limits.Rows > 0 && l.rows >= int64(l.limits.Rows)) || (l.limits.Bytes > 0 && l.bytes >= l.limits.Bytes) {
		return true
	}
	return l.lanes[lane].full(l.limits.RuleRows)
}

// laneFull reports whether the lane is at the limit of one rule.
func (l *ledger) laneFull(lane delivery.Lane) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.lanes[lane].full(l.limits.RuleRows)
}

// full is called with the ledger's mu held; a nil account has no rows.
func (a *account) full(limit int) bool { return limit > 0 && a != nil && a.rows >= int64(limit) }

// used returns the utilisation of the tightest limit: at 1 it is reached.
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

// queued counts a row that is about to be inserted.
func (l *ledger) queued(p *pendingRow) {
	if l == nil || p.insert.State.Ended() {
		return
	}
	p.counted = entry{rows: 1, bytes: int64(len(p.insert.Body))}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(p.insert.Lane(), 1, p.counted.bytes)
}

// unqueued takes back queued for a row that will not be stored.
func (l *ledger) unqueued(p *pendingRow) {
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

// inserted counts rows that were stored.
func (l *ledger) inserted(rows []pendingRow) {
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
			l.sending[in.ID] = sendingRow{in.Lane(), int64(len(in.Body)), now.Add(in.Delay)}
		}
	}
}

// claimed notes rows that this process is about to send.
func (l *ledger) claimed(rows []delivery.Row, until time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rows {
		l.sending[rows[i].ID] = sendingRow{rows[i].Lane(), int64(len(rows[i].Body)), until}
	}
}

// finished counts results that were written; those of lost were not.
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
		row, ok := l.sending[u.ID]
		delete(l.sending, u.ID)
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

// update adopts a measurement by any replica. asked is when this process began to read it. Until
// the next measurement, a row stored just then counts twice rather than not at all.
func (l *ledger) update(records delivery.LaneRecords, asked time.Time) {
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
	for id, row := range l.sending { // no result came
		if asked.After(row.until) {
			delete(l.sending, id)
		}
	}
}
