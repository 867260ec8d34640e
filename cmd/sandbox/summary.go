package main

import (
	"fmt"
	"strings"
	"time"
)

// summary prints the result. It reports whether every delivery was accepted and all were due.
func (t *terminal) summary(l *ledger, took time.Duration) (well bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	var all tally
	for _, r := range l.rules {
		c := l.tallies[r.name]
		all.due += c.due
		all.taken += c.taken
		all.refused += c.refused
		all.retried += c.retried
		all.repeats += c.repeats
	}
	fmt.Fprintf(&b, "\n%d events published, %d deliveries due, %d taken, in %s\n\n",
		l.events, all.due, all.taken, took.Round(100*time.Millisecond))
	for _, r := range l.rules {
		c := l.tallies[r.name]
		note := ""
		switch {
		case r.off:
			note = ", disabled"
		case c.refused > 0:
			note = fmt.Sprintf(", %d of them by retry after %d refusals", c.retried, c.refused)
		}
		fmt.Fprintf(&b, "  %-12s %-30s %s  %d of %d%s\n", r.name, r.event, encoding(r.form), c.taken, c.due, note)
	}
	fmt.Fprintf(&b, "\n%d retries, %d repeats, %d events without a matching rule\n", all.refused, all.repeats, l.unmatched)
	lost := l.lost(&b)
	for _, fault := range l.faults {
		fmt.Fprintf(&b, "WRONG: %s\n", fault)
	}
	if well = lost == 0 && len(l.faults) == 0; well {
		b.WriteString("nothing was lost\n")
	}
	t.printf("%s", b.String())
	return well
}

// lost writes the deliveries that are still due, and returns their number. The caller holds mu.
func (l *ledger) lost(b *strings.Builder) int {
	const most = 10
	shown := 0
	for key, e := range l.due {
		if shown++; shown > most {
			fmt.Fprintf(b, "MISSING: and %d more\n", len(l.due)-most)
			break
		}
		fmt.Fprintf(b, "MISSING: event %s at %s, tried %d times\n", key.event, key.rule, e.attempts)
	}
	return len(l.due)
}

// farewell is the summary of a run that was stopped. Deliveries that wait for a retry are not lost.
func (t *terminal) farewell(l *ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := 0
	for _, c := range l.tallies {
		taken += c.taken
	}
	t.printf("\nstopped: %d events published, %d deliveries taken, %d were still waiting\n", l.events, taken, len(l.due))
}
