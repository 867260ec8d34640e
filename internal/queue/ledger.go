package queue

import (
	"maps"
	"slices"
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
// and ended since. Changes by other replicas since are unknown.
type ledger struct {
	limits Limits

	mu         sync.RWMutex
	lanes      map[delivery.Lane]*account
	total      size      // of all lanes
	measuredAt time.Time // when measuring began, by this process's clock; zero before
	sending    map[delivery.ID]sendingRow
}

// size is a number of rows and the bytes of their bodies. Of a change, what ended counts below 0.
type size struct{ rows, bytes int64 }

func sizeOf(body []byte) size { return size{1, int64(len(body))} }

func (s size) negative() size { return size{-s.rows, -s.bytes} }

func (s *size) add(change size) {
	s.rows += change.rows
	s.bytes += change.bytes
}

// account is what waits in one lane.
type account struct {
	all    size    // measured, own and queued
	own    []entry // since measuredAt, oldest first
	queued size    // being inserted
}

// entry is the changes of about a second.
type entry struct {
	from, at time.Time // the first and last change
	change   size
}

// sendingRow is a row that this process is sending. Once its result ends it, it no longer waits.
type sendingRow struct {
	lane  delivery.Lane
	size  size
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
	if (l.limits.Rows > 0 && l.total.rows >= int64(l.limits.Rows)) || (l.limits.Bytes > 0 && l.total.bytes >= l.limits.Bytes) {
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
func (a *account) full(limit int) bool { return limit > 0 && a != nil && a.all.rows >= int64(limit) }

// used returns the utilisation of the tightest limit: at 1 it is reached.
func (l *ledger) used() float64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var used float64
	if l.limits.Rows > 0 {
		used = max(used, float64(l.total.rows)/float64(l.limits.Rows))
	}
	if l.limits.Bytes > 0 {
		used = max(used, float64(l.total.bytes)/float64(l.limits.Bytes))
	}
	if l.limits.RuleRows > 0 {
		for _, a := range l.lanes {
			used = max(used, float64(a.all.rows)/float64(l.limits.RuleRows))
		}
	}
	return used
}

// queued counts a row that is about to be inserted.
func (l *ledger) queued(p *pendingRow) {
	if p.insert.State.Ended() {
		return
	}
	p.counted = sizeOf(p.insert.Body)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(p.insert.Lane(), p.counted)
}

// unqueued takes back queued for a row that will not be stored.
func (l *ledger) unqueued(p *pendingRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(p.insert.Lane(), p.counted.negative())
}

// account is called with mu held, as are queue, count and note.
func (l *ledger) account(lane delivery.Lane) *account {
	a := l.lanes[lane]
	if a == nil {
		a = &account{}
		l.lanes[lane] = a
	}
	return a
}

func (l *ledger) queue(lane delivery.Lane, change size) {
	if change == (size{}) { // of a row that was never queued
		return
	}
	a := l.account(lane)
	a.queued.add(change)
	l.count(a, change)
}

func (l *ledger) count(a *account, change size) {
	a.all.add(change)
	l.total.add(change)
}

// inserted counts rows that were stored.
func (l *ledger) inserted(rows []pendingRow) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rows {
		in := &rows[i].insert
		l.queue(in.Lane(), rows[i].counted.negative())
		if in.State.Ended() {
			continue
		}
		l.note(in.Lane(), now, sizeOf(in.Body))
		if in.State == delivery.Leased {
			l.sending[in.ID] = sendingRow{in.Lane(), sizeOf(in.Body), now.Add(in.Delay)}
		}
	}
}

// claimed notes rows that this process is about to send.
func (l *ledger) claimed(rows []delivery.Row, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rows {
		l.sending[rows[i].ID] = sendingRow{rows[i].Lane(), sizeOf(rows[i].Body), until}
	}
}

// finished counts results that were written; those of lost were not.
func (l *ledger) finished(updates []delivery.Update, lost []delivery.ID) {
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
			l.note(row.lane, now, row.size.negative())
		}
	}
}

func (l *ledger) note(lane delivery.Lane, at time.Time, change size) {
	a := l.account(lane)
	if n := len(a.own); n > 0 && (at.Sub(a.own[n-1].from) < entrySpan || n >= maxEntries) {
		a.own[n-1].at = at
		a.own[n-1].change.add(change)
	} else {
		a.own = append(a.own, entry{at, at, change})
	}
	l.count(a, change)
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
	l.total = size{}
	for lane, a := range l.lanes {
		r := measured[lane]
		a.own = slices.DeleteFunc(a.own, func(e entry) bool { return !e.at.After(l.measuredAt) })
		if r.Rows == 0 && len(a.own) == 0 && a.queued.rows == 0 {
			delete(l.lanes, lane)
			continue
		}
		a.all = size{int64(r.Rows), r.Bytes}
		a.all.add(a.queued)
		for _, e := range a.own {
			a.all.add(e.change)
		}
		l.total.add(a.all)
	}
	// No result came for these.
	maps.DeleteFunc(l.sending, func(_ delivery.ID, row sendingRow) bool { return asked.After(row.until) })
}
