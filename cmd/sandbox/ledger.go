package main

import (
	"fmt"
	"sync"
)

// remembered bounds the accepted deliveries in the ledger, which detect repeats: the sandbox may
// run for days.
const remembered = 20_000

// ledger records which deliveries are due and which have arrived, by event and rule.
type ledger struct {
	rules []*sampleRule

	mu        sync.Mutex // guards the fields below
	due       map[entryKey]*entry
	taken     map[entryKey]*entry
	order     []entryKey // of taken, oldest first
	tallies   map[string]*tally
	events    int
	unmatched int // events without a matching rule
	faults    []string
	idle      chan struct{} // closed while nothing is due
}

type entryKey struct{ event, rule string }

type entry struct {
	attempts  int
	webhookID string
}

// tally counts the deliveries of one rule.
type tally struct{ due, taken, refused, retried, repeats int }

func newLedger(rules []*sampleRule) *ledger {
	l := &ledger{
		rules: rules, due: map[entryKey]*entry{}, taken: map[entryKey]*entry{}, tallies: map[string]*tally{}, idle: make(chan struct{}),
	}
	close(l.idle)
	for _, r := range rules {
		l.tallies[r.name] = &tally{}
	}
	return l
}

// published records the deliveries due for an event.
func (l *ledger) published(event, eventType string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events++
	wanted := false
	for _, r := range l.rules {
		if r.eventType == eventType && !r.off {
			wanted = true
			if len(l.due) == 0 {
				l.idle = make(chan struct{})
			}
			l.due[entryKey{event, r.name}] = &entry{}
			l.tallies[r.name].due++
		}
	}
	if !wanted {
		l.unmatched++
	}
}

// arrived records a request. It reports whether the endpoint accepts it, and the attempt's number.
func (l *ledger) arrived(event string, r *sampleRule, webhookID string) (take bool, attempt int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := entryKey{event, r.name}
	count := l.tallies[r.name]
	e := l.due[key]
	again := false
	if e == nil {
		if e, again = l.taken[key]; !again {
			l.fault("%s got event %q, which was not due there", r.name, event)
			return true, 1
		}
	}
	e.attempts++
	switch {
	case e.webhookID == "":
		e.webhookID = webhookID
	case e.webhookID != webhookID:
		l.fault("%s got event %s under the ids %s and %s", r.name, event, e.webhookID, webhookID)
	}
	if again {
		count.repeats++
		return true, e.attempts
	}
	if e.attempts <= r.refuses {
		count.refused++
		return false, e.attempts
	}
	if e.attempts > 1 {
		count.retried++
	}
	count.taken++
	l.settle(key, e)
	return true, e.attempts
}

// settle is called with mu held.
func (l *ledger) settle(key entryKey, e *entry) {
	delete(l.due, key)
	l.taken[key] = e
	if l.order = append(l.order, key); len(l.order) > remembered {
		delete(l.taken, l.order[0])
		l.order = l.order[1:]
	}
	if len(l.due) == 0 {
		close(l.idle)
	}
}

// fault is called with mu held.
func (l *ledger) fault(format string, args ...any) {
	const most = 20
	if len(l.faults) < most {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

// settled returns a channel that is closed once nothing is due.
func (l *ledger) settled() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle
}
