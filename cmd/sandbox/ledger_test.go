package main

import (
	"strings"
	"testing"
	"time"
)

// The summary must be able to say no.
func TestLedger(t *testing.T) {
	t.Parallel()
	steady := &sampleRule{name: "steady", eventType: "e"}
	flaky := &sampleRule{name: "flaky", eventType: "e", refuses: 1}
	off := &sampleRule{name: "off", eventType: "e", off: true}
	for _, test := range []struct {
		name string
		does func(l *ledger)
		well bool
		says string
	}{
		{"nothing due", func(*ledger) {}, true, "0 deliveries due"},
		{"no rule wants it", func(l *ledger) { l.published("1", "other") }, true, "1 events without a matching rule"},
		{"all taken", func(l *ledger) {
			l.published("1", "e")
			l.arrived("1", steady, "a")
			l.arrived("1", flaky, "b")
			l.arrived("1", flaky, "b")
		}, true, "nothing was lost"},
		{"a repeat is no loss", func(l *ledger) {
			l.published("1", "e")
			l.arrived("1", steady, "a")
			l.arrived("1", steady, "a")
			l.arrived("1", flaky, "b")
			l.arrived("1", flaky, "b")
		}, true, "1 repeats"},
		{"one rule got nothing", func(l *ledger) {
			l.published("1", "e")
			l.arrived("1", steady, "a")
		}, false, "MISSING: event 1 at flaky, tried 0 times"},
		{"refused and not sent again", func(l *ledger) {
			l.published("1", "e")
			l.arrived("1", steady, "a")
			l.arrived("1", flaky, "b")
		}, false, "MISSING: event 1 at flaky, tried 1 times"},
		{"not due", func(l *ledger) {
			l.published("1", "e")
			l.arrived("1", steady, "a")
			l.arrived("1", flaky, "b")
			l.arrived("1", flaky, "b")
			l.arrived("1", off, "c")
		}, false, "WRONG: off got event"},
		{"another id", func(l *ledger) {
			l.published("1", "e")
			l.arrived("1", steady, "a")
			l.arrived("1", flaky, "b")
			l.arrived("1", flaky, "c")
		}, false, "WRONG: flaky got event 1 under the ids b and c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := newLedger([]*sampleRule{steady, flaky, off})
			test.does(l)
			var out strings.Builder
			if well := newTerminal(&out, false).summary(l, time.Second); well != test.well || !strings.Contains(out.String(), test.says) {
				t.Errorf("well: %v, want %v and %q in:\n%s", well, test.well, test.says, out.String())
			}
			select {
			case <-l.settled():
			default:
				if test.well {
					t.Error("not settled")
				}
			}
		})
	}
}

// The ledger does not grow for ever.
func TestLedgerForgets(t *testing.T) {
	t.Parallel()
	r := &sampleRule{name: "steady", eventType: "e"}
	l := newLedger([]*sampleRule{r})
	for range remembered + 10 {
		id := newEventID()
		l.published(id, "e")
		l.arrived(id, r, "a")
	}
	if len(l.taken) != remembered || len(l.order) != remembered || len(l.due) != 0 {
		t.Errorf("%d taken, %d in order, %d due", len(l.taken), len(l.order), len(l.due))
	}
}
