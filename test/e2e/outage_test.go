//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestServersThatRestart restarts the broker and then the database, each once by SIGTERM and once
// by SIGKILL, during a stream of events. One rule fails now and then, so that rows are written and
// read all the time.
func TestServersThatRestart(t *testing.T) {
	t.Parallel()
	kafka, mariadb := harness.OwnServer(t, "kafka"), harness.OwnServer(t, "mariadb")
	s := harness.NewSite(t, kafka, mariadb)
	s.Lean = true
	s.On("failing", func(n int, r *harness.Received) harness.Reply {
		if n == 1 && r.At.UnixNano()%4 == 0 {
			return harness.Reply{Status: 500}
		}
		return harness.Reply{Status: 200}
	})
	for _, hook := range harness.Hooks {
		s.Rule(hook)
	}
	s.Producer.CreateTopic(harness.Registrations, 3)
	s.WatchOffsets(harness.Registrations)
	d := s.Serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s")
	stream := s.Publish("--type", "student.registration.completed", "--count", "100000", "--rate", "150")
	harness.Eventually(t, 30*time.Second, "the first events", func() error {
		return harness.AtLeast(len(s.Taken("first")), 100)
	})

	var took []time.Duration
	for _, server := range []*harness.Server{kafka, mariadb} {
		for _, kill := range []bool{false, true} {
			without := len(s.Taken("first"))
			server.Stop(t, kill)
			if server == mariadb {
				// The database stays away for a while: rows cannot be written, and events that need
				// one are not released.
				d.WaitNotReady("database", "", 10*time.Second)
				// Other events continue, up to a window after the first event that needs a row.
				harness.Eventually(t, 40*time.Second, "events without a database", func() error {
					return harness.AtLeast(len(s.Taken("first")), without+300)
				})
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			fault := time.Now()
			d.WaitReady(harness.Recovery)
			before := map[string]int{}
			for _, hook := range harness.Hooks {
				before[hook] = len(s.Taken(hook))
			}
			for _, hook := range harness.Hooks {
				harness.Eventually(t, time.Until(fault.Add(harness.Recovery)), hook+" gets events again", func() error {
					return harness.AtLeast(len(s.Taken(hook)), before[hook]+20)
				})
			}
			took = append(took, time.Since(fault).Round(10*time.Millisecond))
		}
	}
	events := stream.Stop()
	harness.Eventually(t, 90*time.Second, "every event at every rule", func() error {
		return s.Missing(events)
	})
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	harness.Eventually(t, 90*time.Second, "rows", s.AllDelivered)
	total, repeats := s.Repeats(events)
	states, err := s.States()
	harness.Figure(t,
		"%d events × %d rules; going on after restarts of broker and database: %v; %d repeats, %.1f %%; rows %v %v; stopped in %s",
		len(events), len(harness.Hooks), took, repeats, 100*float64(repeats)/float64(total), states, err, d.Terminate())
}
