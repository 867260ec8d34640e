//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// neighbours is a daemon with endpoints on one topic, some of which behave badly.
type neighbours struct {
	*harness.Site
	load    *harness.Load
	sink    *harness.Sink
	d       *harness.Daemon
	healthy []*harness.Endpoint
	indexes []int // of the healthy endpoints among all
	types   int
}

// newNeighbours adds a rule for each behaviour, nil for a healthy endpoint, and starts a daemon.
// The rules are for one event type, or each for its own.
func newNeighbours(t *testing.T, ownTypes bool, behaviours []harness.Behaviour, settings ...string) *neighbours {
	t.Helper()
	n := &neighbours{Site: harness.NewSite(t), sink: harness.NewSink(t), types: 1}
	if ownTypes {
		n.types = len(behaviours)
	}
	n.load = n.NewLoad(n.types, 4)
	for i, b := range behaviours {
		e, _ := n.AddHook(n.sink, fmt.Sprintf("hook%d", i), n.load.Constants[i%n.types], b)
		if b == nil {
			n.healthy, n.indexes = append(n.healthy, e), append(n.indexes, i)
		}
	}
	n.d = n.Serve(append([]string{"WEBHOOK_DISPATCHER_TIMEOUT=" + hangTime.String()}, settings...)...)
	return n
}

// wanted returns a function that reports whether that healthy endpoint gets an event.
func (n *neighbours) wanted(index int) func(event int) bool {
	return func(event int) bool { return event%n.types == n.indexes[index]%n.types }
}

// waitHealthy waits until the healthy endpoints have got every published event.
func (n *neighbours) waitHealthy(limit time.Duration) time.Duration {
	n.T.Helper()
	total := len(n.load.Sent())
	return harness.Eventually(n.T, limit, "all events at the healthy endpoints", func() error {
		for i, e := range n.healthy {
			due := 0
			if due = total / n.types; n.indexes[i]%n.types < total%n.types {
				due++
			}
			if got := e.Events(); got < due {
				return fmt.Errorf("endpoint %d has %d of %d", n.indexes[i], got, due)
			}
		}
		return nil
	})
}

// latencies returns the times from publishing to the first request over all healthy endpoints.
func (n *neighbours) latencies() harness.Spread {
	n.T.Helper()
	var all []time.Duration
	for i, e := range n.healthy {
		times, missing := n.load.Latencies(e, n.wanted(i))
		if missing > 0 {
			n.T.Errorf("healthy endpoint %d has not got %d events", n.indexes[i], missing)
		}
		all = append(all, times...)
	}
	return harness.SpreadOf(all)
}

// mixed returns behaviours: the bad ones in turn for the faulty endpoints, nil for the others.
func mixed(endpoints, faulty int, bad ...harness.Behaviour) []harness.Behaviour {
	all := make([]harness.Behaviour, endpoints)
	for i := range faulty {
		all[i] = bad[i%len(bad)]
	}
	return all
}

var (
	// hangTime is the daemon's timeout in these tests: how long a hanging endpoint keeps a request.
	hangTime = harness.Sized(5*time.Second, 10*time.Second)
	// settleTime is how long a fault may show in the lag: after its second round of timeouts a
	// hanging endpoint is known, and its waiting deliveries become rows.
	settleTime = 2*hangTime + 5*time.Second
)

// late returns an error if a healthy endpoint got its events late. The median and the p90, or p99
// in a soak, allow for a busy machine of two cores. No event may wait for another endpoint's
// timeout.
func late(times harness.Spread) error {
	const usual, seldom = 200 * time.Millisecond, time.Second
	if times.P50 > usual || harness.Sized(times.P90, times.P99) > seldom || times.Max > hangTime {
		return fmt.Errorf("the healthy endpoints got their events after %s", times)
	}
	return nil
}

// sideBySide runs the parts of a test in parallel, before the tests that are parallel themselves.
// In a soak, where rates are higher, each part has the machine to itself.
func sideBySide(t *testing.T) {
	t.Helper()
	if !harness.Soak {
		t.Parallel()
	}
}

// TestBadNeighbours sends a steady stream to ten endpoints, some of which behave badly. The healthy
// ones must get everything promptly, and after a few timeouts no partition may lag because of the
// bad ones.
func TestBadNeighbours(t *testing.T) {
	for _, c := range []struct {
		name     string
		ownTypes bool
		faulty   int
		bad      []harness.Behaviour
		refused  bool // the first endpoint refuses connections
		long     bool // in a soak only
	}{
		{name: "none"},
		{name: "1 hangs", faulty: 1, bad: []harness.Behaviour{harness.Hangs}},
		{name: "5 hang", faulty: 5, bad: []harness.Behaviour{harness.Hangs}},
		{name: "1 hangs of own type", faulty: 1, bad: []harness.Behaviour{harness.Hangs}, ownTypes: true, long: true},
		{name: "5 hang of own type", faulty: 5, bad: []harness.Behaviour{harness.Hangs}, ownTypes: true},
		{name: "5 ask for patience", faulty: 5, bad: []harness.Behaviour{harness.Refuses}, long: true},
		{name: "5 drip", faulty: 5, bad: []harness.Behaviour{harness.Drips}, long: true},
		{name: "of all kinds", faulty: 4, bad: []harness.Behaviour{nil, harness.Refuses, harness.Drips, harness.Hangs}, refused: true},
	} {
		if c.long && !harness.Soak {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			sideBySide(t)
			behaviours := mixed(10, c.faulty, c.bad...)
			n := newNeighbours(t, c.ownTypes, behaviours)
			if c.refused {
				n.AddRule(n.load.Constants[0], "http://"+harness.RefusedAddress(t)+"/"+harness.SecretPath)
			}
			// Deliveries per second are ten times the rate, or the rate if each endpoint has its
			// own type.
			rate, length := harness.Sized(50, 200), harness.Sized(25, 60)
			if c.ownTypes {
				rate *= 10
			}
			stop := n.Producer.WatchLag(harness.Registrations)
			begun := time.Now()
			n.load.Send(rate*length, rate)
			ended := time.Now()
			n.waitHealthy(hangTime)
			samples := stop()
			times := n.latencies()
			if err := late(times); err != nil {
				t.Error(err)
			}
			// A partition lags by the events between two commits and during the hand-off time, and
			// a few more on a busy machine.
			most, later := int64(0), int64(0)
			for _, sample := range samples {
				most = max(most, sample.Worst())
				if sample.At.After(begun.Add(settleTime)) && sample.At.Before(ended) {
					later = max(later, sample.Worst())
				}
			}
			if bound := int64(rate/n.load.Partitions) * 3; later > bound {
				t.Errorf("a partition was %d records behind %s and more after the start, want %d at most", later, settleTime, bound)
			}
			caughtUp := n.Producer.WaitCommitted(settleTime, harness.Registrations)
			harness.Figure(t,
				"%d events at %d/s: healthy after %s; worst lag of a partition %d, after %s %d, none %s after the end; rows: %s; %.0f MiB",
				rate*length, rate, times, most, settleTime, later, caughtUp, n.d.EnqueuedBy(), n.d.Peak())
			n.d.Kill()
		})
	}
}

// TestManyHangingEndpoints has one healthy endpoint and more hanging ones than the process can have
// requests in flight.
func TestManyHangingEndpoints(t *testing.T) {
	for _, hanging := range []int{16, 100} {
		t.Run(fmt.Sprint(hanging), func(t *testing.T) {
			sideBySide(t)
			n := newNeighbours(t, false, mixed(hanging+1, hanging, harness.Hangs))
			rate, length := 20, harness.Sized(25, 60)
			begun := time.Now()
			n.load.Send(rate*length, rate)
			n.waitHealthy(hangTime)
			times, sent := n.latencies(), n.load.Sent()
			later, _ := n.load.Latencies(n.healthy[0], func(event int) bool { return sent[event].At.After(begun.Add(settleTime)) })
			if err := late(times); err != nil {
				t.Error(err)
			}
			caughtUp := n.Producer.WaitCommitted(2*settleTime, harness.Registrations)
			harness.Figure(t,
				"%d events at %d/s: healthy after %s, from %s on after %s; no lag %s after the end; rows: %s; %.0f MiB",
				rate*length, rate, times, settleTime, harness.SpreadOf(later), caughtUp, n.d.EnqueuedBy(), n.d.Peak())
			n.d.Kill()
		})
	}
}

// TestBurstBesideHangingEndpoints compares how fast the same healthy endpoints get a burst while
// none, one or five of ten endpoints hang. The kinds take turns, so that noise affects all alike,
// and the best runs are compared. In CI, where other work may slow down any run, there are more
// rounds until the best are good enough.
func TestBurstBesideHangingEndpoints(t *testing.T) {
	const compared = 5 // endpoints that never hang
	// The burst is larger than all partitions' windows together.
	events, window, wanted := harness.Sized(5000, 20_000), harness.Sized(512, 4096), harness.Sized(0.8, 0.9)
	least, most := harness.Sized(1, 5), harness.Sized(6, 5) // rounds
	kinds := []int{0, 1, 5}
	rates, best := make(map[int][]int), make(map[int]int)
	share := func(hanging int) float64 { return float64(best[hanging]) / float64(best[0]) }
	for round := 0; round < least || round < most && (share(1) < wanted || share(5) < wanted); round++ {
		for _, hanging := range kinds {
			t.Run(fmt.Sprintf("%d of 10 round %d", hanging, round+1), func(t *testing.T) {
				n := newNeighbours(t, false, mixed(10, hanging, harness.Hangs),
					fmt.Sprintf("WEBHOOK_DISPATCHER_MAX_IN_FLIGHT_PER_PARTITION=%d", window))
				n.healthy, n.indexes = n.healthy[len(n.healthy)-compared:], n.indexes[len(n.indexes)-compared:]
				begun := time.Now()
				n.load.Send(events, 0)
				n.waitHealthy(2 * time.Minute)
				last := begun
				for _, e := range n.healthy {
					for _, at := range e.Firsts() {
						if at.After(last) {
							last = at
						}
					}
				}
				rate := int(float64(events*compared) / last.Sub(begun).Seconds())
				rates[hanging], best[hanging] = append(rates[hanging], rate), max(best[hanging], rate)
				t.Logf("%d deliveries a second to %d healthy endpoints; rows: %s; %.0f MiB", rate, compared, n.d.EnqueuedBy(), n.d.Peak())
				n.d.Kill()
			})
		}
		if t.Failed() {
			return
		}
	}
	harness.Figure(t,
		"%d events, deliveries a second to %d healthy endpoints with 0, 1 and 5 of 10 hanging: %d, %d (%.2f), %d (%.2f); all "+
			"runs %v", events, compared, best[0], best[1], share(1), best[5], share(5), rates)
	for _, hanging := range kinds[1:] {
		if share(hanging) < wanted {
			t.Errorf("with %d of 10 hanging the others have %.2f of their throughput, want %.2f", hanging, share(hanging), wanted)
		}
	}
}
