//go:build e2e

// Package webfilters shows that one row of the plugin, pointing at the dispatcher, does what the
// plugin would do with the dispatcher's rows. The real plugin, in a Django process, calls the real
// filters of openedx-filters twice for each case: once with all rows pointing straight at a
// receiver, once with one row pointing at a dispatcher that has those rows. The filter's result,
// its changes to the arguments and the receiver's requests must be the same. The only exception is
// the message of a request exception, which is Python's own text.
//
// The cases come from filters_test.go for each filter of the plugin, from answers_test.go for what
// endpoints answer, from testdata, and from random mixtures. Known differences are in known_test.go
// with their reasons. To run some cases:
//
//	go test -tags e2e -v ./test/webfilters -case 'DashboardRenderStarted.*halt'
package webfilters

import (
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	only   = flag.String("case", "", "a regular expression: only cases whose `name` fits")
	seed   = flag.Uint64("seed", 27, "what random cases are made from")
	random = flag.Int("random", 300, "`how many` random cases there are")
)

func TestOneRowDoesWhatTheRowsWouldDo(t *testing.T) {
	t.Parallel()
	cases := slices.Concat(filterCases(), answerCases(), addressCases(), knownCases(), capturedCases(t), randomCases(*seed, *random))
	if fits := regexp.MustCompile(*only); *only != "" {
		cases = slices.DeleteFunc(cases, func(c testCase) bool { return !fits.MatchString(c.name) })
	}
	// Cases that wait for the plugin's timeout start first.
	slices.SortStableFunc(cases, func(a, b testCase) int { return b.silences() - a.silences() })

	waiting := make(chan testCase, len(cases))
	for _, c := range cases {
		waiting <- c
	}
	close(waiting)
	sum := newSummary()
	var all sync.WaitGroup
	for range benches {
		b := newBench(t)
		all.Go(func() {
			unchanged := map[string]outcome{}
			for c := range waiting {
				if _, ok := unchanged[c.filter]; !ok {
					unchanged[c.filter] = b.plugin.call(c.filter, nil, c.arguments)
				}
				sum.add(t, &c, unchanged[c.filter], b.compare(&c))
			}
		})
	}
	all.Wait()
	t.Log(sum.table())
	if *only == "" {
		sum.check(t)
	}
}

// benches is how many cases run at a time. Most of the time goes into the plugin, which has one
// process per bench.
const benches = 3

// bench runs one case at a time.
type bench struct {
	plugin     *plugin
	receiver   *receiver
	dispatcher *dispatcher
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{plugin: startPlugin(t), receiver: startReceiver(t), dispatcher: startDispatcher(t)}
}

// result is a case's outcome, and how it differs through the dispatcher.
type result struct {
	straight    outcome
	calls       []call
	differences []string
}

// compare runs a case without and with the dispatcher.
func (b *bench) compare(c *testCase) result {
	b.receiver.expect(c.rows)
	straight := b.plugin.call(c.filter, b.receiver.columns(c.rows), c.arguments)
	calls := b.receiver.take()

	b.dispatcher.serve(c.filter, b.receiver.columns(c.rows), c.timeout)
	through := b.plugin.call(c.filter, []columns{{"webhook_url": b.dispatcher.url(c.filter), "use_www_form_encoding": c.form}}, c.arguments)
	r := result{straight: straight, calls: calls, differences: differ(&straight, &through)}
	r.differences = append(r.differences, differentCalls(c, calls, b.receiver.take())...)
	r.differences = append(r.differences, b.dispatcher.problems()...)
	return r
}

// differ compares two outcomes.
func differ(straight, through *outcome) []string {
	var list []string
	note := func(what, a, b string) {
		if a != b {
			list = append(list, what+": "+apart(a, b))
		}
	}
	note("returned", straight.Returned, through.Returned)
	note("pipeline", straight.Pipeline, through.Pipeline)
	for name := range straight.Arguments {
		note("argument "+name, straight.Arguments[name], through.Arguments[name])
	}
	if straight.Raised == nil || through.Raised == nil {
		note("raised", straight.Raised.String(), through.Raised.String())
		return list
	}
	note("raised class", straight.Raised.Class, through.Raised.Class)
	for _, name := range slices.Sorted(maps.Keys(straight.Raised.Attributes)) {
		note("raised "+name, straight.Raised.Attributes[name], through.Raised.Attributes[name])
	}
	note("raised attributes", fmt.Sprint(slices.Sorted(maps.Keys(straight.Raised.Attributes))),
		fmt.Sprint(slices.Sorted(maps.Keys(through.Raised.Attributes))))
	switch {
	case !straight.RequestException:
		note("raised message", straight.Raised.Message, through.Raised.Message)
	case len(through.Raised.Message) < len("'a reason'"):
		list = append(list, "raised message: a request exception says nothing")
	}
	return list
}

// apart shows where two texts begin to differ.
func apart(straight, through string) string {
	at := 0
	for at < min(len(straight), len(through)) && straight[at] == through[at] {
		at++
	}
	begin := max(0, at-80)
	return fmt.Sprintf("at byte %d\n\t\tstraight …%.300q\n\t\tthrough  …%.300q", at, straight[begin:], through[begin:])
}

// differentCalls compares the receiver's requests.
func differentCalls(c *testCase, straight, through []call) []string {
	var list []string
	for i := range max(len(straight), len(through)) {
		switch {
		case i >= len(through):
			list = append(list, fmt.Sprintf("call %d: missing, straight it was %v", i, straight[i]))
		case i >= len(straight):
			list = append(list, fmt.Sprintf("call %d: too many, it was %v", i, through[i]))
		default:
			a, problem := straight[i].timeless(c.filter)
			b, other := through[i].timeless(c.filter)
			if problem+other != "" {
				list = append(list, fmt.Sprintf("call %d: %s%s", i, problem, other))
			}
			if a != b {
				list = append(list, fmt.Sprintf("call %d: %s", i, apart(fmt.Sprint(a), fmt.Sprint(b))))
			}
		}
	}
	return list
}

// summary counts the outcomes of the cases by filter.
type summary struct {
	mu      sync.Mutex
	filters map[string]*tally
}

type tally struct{ cases, rows, calls, changed, raised, known, different int }

func newSummary() *summary { return &summary{filters: map[string]*tally{}} }

func (s *summary) add(t *testing.T, c *testCase, unchanged outcome, r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.filters[c.filter]
	if n == nil {
		n = &tally{}
		s.filters[c.filter] = n
	}
	n.cases++
	n.rows += len(c.rows)
	n.calls += len(r.calls)
	switch {
	case r.straight.Raised != nil:
		n.raised++
	case r.straight.Pipeline != unchanged.Pipeline:
		n.changed++
	}
	if was := r.straight.Raised.class(); c.raises != "" && c.raises != was {
		t.Errorf("%s: the plugin raised %s, recorded was %s", c.name, was, c.raises)
	}
	switch {
	case c.differs != "" && len(r.differences) > 0:
		n.known++
	case c.differs != "":
		t.Errorf("%s: it is said to differ (%s), and does not", c.name, c.differs)
	case len(r.differences) > 0:
		n.different++
		t.Errorf("%s: %d rows, %s\n\t%s", c.name, len(c.rows), c, strings.Join(r.differences, "\n\t"))
	}
}

// check fails the test unless the cases changed something for every filter and raised its
// exceptions.
func (s *summary) check(t *testing.T) {
	t.Helper()
	for _, f := range filters {
		n := s.filters[f.name]
		if n == nil || n.changed == 0 || n.calls <= n.cases/2 || n.raised == 0 && len(f.exceptions) > 0 {
			t.Errorf("%s: its cases prove nothing: %+v", f.name, n)
		}
	}
	if len(s.filters) != len(filters) {
		t.Errorf("cases for %d filters, the plugin has %d", len(s.filters), len(filters))
	}
}

func (s *summary) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-38s %6s %6s %6s %8s %7s %6s %10s\n", "filter", "cases", "rows", "calls", "changed", "raised", "known", "different")
	var sum tally
	for _, name := range slices.Sorted(maps.Keys(s.filters)) {
		n := s.filters[name]
		n.print(&b, name)
		sum.cases, sum.rows, sum.calls = sum.cases+n.cases, sum.rows+n.rows, sum.calls+n.calls
		sum.changed, sum.raised = sum.changed+n.changed, sum.raised+n.raised
		sum.known, sum.different = sum.known+n.known, sum.different+n.different
	}
	sum.print(&b, fmt.Sprintf("%d filters", len(s.filters)))
	return b.String()
}

func (n *tally) print(b *strings.Builder, name string) {
	fmt.Fprintf(b, "%-38s %6d %6d %6d %8d %7d %6d %10d\n", name, n.cases, n.rows, n.calls, n.changed, n.raised, n.known, n.different)
}
