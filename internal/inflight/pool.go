package inflight

import (
	"context"
	"sync"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// maxRoom is the maximum number of rows in a claim.
const maxRoom = 32

// PoolOptions configure a Pool. All are required.
type PoolOptions struct {
	Concurrency int                            // slots per key; at least 1
	Longest     time.Duration                  // of a run; leases exceed it
	Key         func(row *delivery.Row) string // of the line that a row joins
	// Run runs a claimed row and settles it. ctx ends when Stop gives up on it.
	Run func(ctx context.Context, row *delivery.Row, until time.Time)
	// Settle writes the result of a lease. It must not block.
	Settle func(delivery.Update)
	// Wake is called when there is room for rows again. It must not block.
	Wake func()
}

// Pool runs claimed rows and first tries, with a line and a number of slots per key. It is safe for
// concurrent use, and calls Settle and Wake without its lock.
type Pool struct {
	options PoolOptions
	workers *Workers

	mu      sync.Mutex
	lines   map[string]*poolLine // by key; only those in use
	held    map[int32]int        // rows in memory by rule: in line or running
	resting map[int32]time.Time  // until when the rows of a rule are not run
	stopped bool
}

// poolLine is the line of one key.
type poolLine struct {
	Line[*Entry]

	wanted bool // a claim wanted more room
}

// Entry is a first try or a claimed row in a pool, whose lock guards it.
type Entry struct {
	key    string
	run    func() // with a slot
	inLine bool
	begun  bool // it has a slot

	row   *delivery.Row // nil for a first try
	timer *time.Timer   // returns a row that has been in line too long
}

// NewEntry returns the entry of a first try that calls run once it has a slot.
func NewEntry(key string, run func()) *Entry { return &Entry{key: key, run: run} }

// NewPool returns an empty pool.
func NewPool(o PoolOptions) *Pool {
	return &Pool{
		options: o, workers: NewWorkers(), lines: make(map[string]*poolLine), held: make(map[int32]int),
		resting: make(map[int32]time.Time),
	}
}

// Context returns the context that items run under.
func (p *Pool) Context() context.Context { return p.workers.Context }

// Join gives a first try a slot or puts it in line, unless it has or is already, or the pool is
// stopped.
func (p *Pool) Join(e *Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.begun && !e.inLine && !p.stopped {
		p.join(e)
	}
}

// join is called with mu held.
func (p *Pool) join(e *Entry) {
	l := p.lines[e.key]
	if l == nil {
		l = &poolLine{}
		p.lines[e.key] = l
	}
	l.Push(e, e.row != nil)
	e.inLine = true
	p.pump(l)
}

// pump starts entries while there are slots. It is called with mu held.
func (p *Pool) pump(l *poolLine) {
	for !p.stopped && l.Active() < p.options.Concurrency {
		e, ok := l.Begin()
		if !ok {
			return
		}
		e.inLine, e.begun = false, true
		p.workers.Go(func() {
			e.run()
			p.leave(e)
		})
	}
}

// Remove removes a first try from its line, and reports whether it was in line.
func (p *Pool) Remove(e *Entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remove(e)
}

// remove is called with mu held.
func (p *Pool) remove(e *Entry) bool {
	in := e.inLine && p.lines[e.key].Leave(e, e.row != nil)
	e.inLine = false
	return in
}

// leave gives an entry's slot to the next in line.
func (p *Pool) leave(e *Entry) {
	p.mu.Lock()
	l := p.lines[e.key]
	l.End(e.row != nil)
	e.begun = false
	if e.row != nil {
		p.forget(e)
	}
	p.pump(l)
	wake := l.wanted && p.room(l) >= (quarter(p.options.Concurrency)+1)/2
	if wake {
		l.wanted = false
	}
	if l.Empty() {
		delete(p.lines, e.key)
	}
	p.mu.Unlock()
	if wake {
		p.options.Wake()
	}
}

// room is how many more rows of the line may be claimed. While first tries wait, rows get a quarter
// of the slots, so that neither starves. It is called with mu held.
func (p *Pool) room(l *poolLine) int {
	first, rows := l.Waiting()
	if first > 0 {
		return quarter(p.options.Concurrency) - l.Rows()
	}
	return p.options.Concurrency - l.Active() - rows
}

func quarter(n int) int { return max(n/4, 1) }

// Room returns how many rows of a rule may be claimed now, and for how long. key is that of most of
// them.
func (p *Pool) Room(rule int32, key string) (rows int, lease time.Duration) {
	lease = delivery.Lease(p.options.Longest)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return 0, lease
	}
	rows = p.options.Concurrency - p.held[rule]
	if l := p.lines[key]; l != nil {
		rows = min(rows, p.room(l))
		l.wanted = l.wanted || rows < maxRoom
	}
	if until, rests := p.resting[rule]; rests {
		if time.Now().Before(until) {
			return 0, lease
		}
		rows = min(rows, 1-p.held[rule]) // one at a time, until Recovered
	}
	return max(0, min(rows, maxRoom)), lease
}

// Resend runs claimed rows whose leases end at until.
func (p *Pool) Resend(rows []delivery.Row, until time.Time) {
	var back []*delivery.Row
	p.mu.Lock()
	for i := range rows {
		if p.stopped {
			back = append(back, &rows[i])
			continue
		}
		row := &rows[i]
		e := NewEntry(p.options.Key(row), func() { p.run(row, until) })
		e.row = row
		p.held[row.RuleID]++
		if p.join(e); e.inLine {
			e.timer = time.AfterFunc(time.Until(p.last(until)), func() { p.expire(e) })
		}
	}
	p.mu.Unlock()
	for _, row := range back {
		p.options.Settle(delivery.Return(row, 0))
	}
}

// last is the latest time to begin a row with this lease.
func (p *Pool) last(until time.Time) time.Time { return until.Add(-p.options.Longest - LeaseMargin) }

func (p *Pool) run(row *delivery.Row, until time.Time) {
	p.mu.Lock()
	rest := time.Until(p.resting[row.RuleID])
	p.mu.Unlock()
	if rest > 0 || time.Now().After(p.last(until)) {
		p.options.Settle(delivery.Return(row, max(0, rest)))
		return
	}
	p.options.Run(p.workers.Context, row, until)
}

// expire returns a row that is still in line.
func (p *Pool) expire(e *Entry) {
	p.mu.Lock()
	waited := p.remove(e)
	if waited {
		p.forget(e)
	}
	p.mu.Unlock()
	if waited {
		p.options.Settle(delivery.Return(e.row, 0))
	}
}

// forget stops counting a row that has left. It is called with mu held.
func (p *Pool) forget(e *Entry) {
	if e.timer != nil {
		e.timer.Stop()
	}
	if p.held[e.row.RuleID]--; p.held[e.row.RuleID] == 0 {
		delete(p.held, e.row.RuleID)
	}
}

// Rest returns a row for delay, during which the other rows of its rule, which would fare no
// better, are not run. Then one at a time is tried, until Recovered.
func (p *Pool) Rest(row *delivery.Row, delay time.Duration) {
	p.mu.Lock()
	p.resting[row.RuleID] = time.Now().Add(delay)
	p.mu.Unlock()
	p.options.Settle(delivery.Return(row, delay))
}

// Recovered records that a row of the rule succeeded.
func (p *Pool) Recovered(rule int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.resting[rule]) {
		delete(p.resting, rule)
	}
}

// Go runs do in a goroutine that Stop waits for. It returns false once the pool is stopped.
func (p *Pool) Go(do func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.workers.Go(do)
	}
	return !p.stopped
}

// Stopped reports whether Stop has been called.
func (p *Pool) Stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// Stop returns the rows in line and waits for running entries; if ctx ends first it cancels them
// and returns ctx's error. Nothing begins any more.
func (p *Pool) Stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	var back []*delivery.Row
	for _, l := range p.lines {
		for _, e := range l.TakeRows(func(*Entry) bool { return true }) {
			e.inLine = false
			p.forget(e)
			back = append(back, e.row)
		}
	}
	p.mu.Unlock()
	for _, row := range back {
		p.options.Settle(delivery.Return(row, 0))
	}
	return p.workers.Stop(ctx)
}
