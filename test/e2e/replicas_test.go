//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestTwoReplicas shows that only the holder of a row's lease sends it, until the lease has run
// out.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 4)
	s.Rule("held")
	settings := []string{"WEBHOOK_DISPATCHER_TIMEOUT=20s", "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s"}
	first := s.Serve(settings...)
	second := s.Launch(settings...)
	second.WaitReady(30 * time.Second)
	for _, d := range []*harness.Daemon{first, second} {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 2, 30*time.Second)
	}

	// All requests are held, so each first try becomes a row leased by its replica.
	hold := make(chan struct{})
	s.On("held", func(int, *harness.Received) harness.Reply { return harness.Reply{Status: 200, After: hold} })
	// The initial concurrency limit of two replicas.
	ids := s.Producer.Publish(harness.Registrations, 4, 1, 16)
	harness.Eventually(t, 20*time.Second, "requests", func() error {
		return harness.Want("number", s.Count("held"), len(ids))
	})
	harness.Eventually(t, 20*time.Second, "leased rows", func() error {
		states, err := s.States()
		return errors.Join(err, harness.Want("leased", states["leased"], len(ids)))
	})
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	leasedAt := time.Now()
	harness.Throughout(t, 3*time.Second, "requests while leases hold", func() error {
		return harness.Want("number", s.Count("held"), len(ids))
	})

	// The first replica dies with its requests; those of the second end well.
	first.Kill()
	close(hold)
	s.On("held", harness.Answers(200))
	var left int
	harness.Eventually(t, 10*time.Second, "the second replica's rows are delivered", func() error {
		states, err := s.States()
		left = states["leased"]
		return errors.Join(err, harness.Want("delivered", states["delivered"], len(ids)/2))
	})
	harness.Throughout(t, time.Until(leasedAt.Add(harness.Lease-12*time.Second)), "rows of the killed replica", func() error {
		return harness.Want("number of requests", s.Count("held"), len(ids))
	})
	harness.Eventually(t, 45*time.Second, "rows of the killed replica are delivered", func() error {
		states, err := s.States()
		return errors.Join(err, harness.Want("delivered", states["delivered"], len(ids)))
	})
	for _, id := range ids {
		if s.Taken("held")[id] == 0 {
			t.Errorf("event %s was not delivered", id)
		}
	}
	harness.Figure(t, "%d rows; %d of a killed replica sent %s after they were leased; stopped in %s",
		len(ids), left, harness.Since(leasedAt), second.Terminate())
}

// TestSharedRowsAreSentOnce has two replicas send rows that are due at the same time.
func TestSharedRowsAreSentOnce(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 4)
	s.Rule("shared")
	s.On("shared", harness.Answers(500, 200))
	settings := []string{"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=3s,3s,3s"}
	replicas := []*harness.Daemon{s.Serve(settings...), s.Launch(settings...)}
	for _, d := range replicas {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 2, 30*time.Second)
	}
	ids := s.Producer.Publish(harness.Registrations, 4, 1, 2000)
	harness.Eventually(t, 60*time.Second, "deliveries", func() error {
		return harness.Want("delivered", len(s.Taken("shared")), len(ids))
	})
	harness.Eventually(t, 10*time.Second, "rows", s.AllDelivered)
	if n := s.Count("shared"); n != 2*len(ids) {
		t.Errorf("%d requests, want %d: a failure and a success for each event", n, 2*len(ids))
	}
	var shares []float64
	for _, d := range replicas {
		n, err := d.Metric("webhook_dispatcher_rows_claimed_total")
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, n)
	}
	harness.Figure(t, "%d rows, claimed %v by the two replicas, each sent once", len(ids), shares)
	for _, d := range replicas {
		d.Terminate()
	}
}

// TestRollingRestart replaces both replicas again and again during a stream of events, as a
// deployment does. Each settles what it has read before another gets its partitions, so nothing is
// lost or repeated.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Lean = true
	for _, hook := range harness.Hooks {
		s.Rule(hook)
	}
	s.On("second", func(_ int, r *harness.Received) harness.Reply { // sometimes slower than the hand-off time
		if r.At.UnixNano()%10 == 0 {
			return harness.Reply{Status: 200, After: harness.Passed(700 * time.Millisecond)}
		}
		return harness.Reply{Status: 200}
	})
	s.On("failing", func(n int, r *harness.Received) harness.Reply {
		if n == 1 && r.At.UnixNano()%4 == 0 {
			return harness.Reply{Status: 500}
		}
		return harness.Reply{Status: 200}
	})
	s.Producer.CreateTopic(harness.Registrations, 6)
	s.WatchOffsets(harness.Registrations)
	settings := "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s"
	replicas := []*harness.Daemon{s.Serve(settings), s.Launch(settings)}
	stream := s.Publish("--type", "student.registration.completed", "--count", "100000", "--rate", "300")
	var stopped []time.Duration
	for i := range 6 {
		old := replicas[i%2]
		for _, d := range replicas {
			d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 3, 40*time.Second)
		}
		before := len(s.Taken("first"))
		harness.Eventually(t, 20*time.Second, "events", func() error {
			return harness.AtLeast(len(s.Taken("first")), before+300)
		})
		stopped = append(stopped, old.Terminate())
		replicas[i%2] = s.Launch(settings)
	}
	events := stream.Stop()
	harness.Eventually(t, 60*time.Second, "every event at every rule", func() error {
		return s.Missing(events)
	})
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	harness.Eventually(t, 90*time.Second, "rows", s.AllDelivered)
	total, repeats := s.Repeats(events)
	if repeats > 0 {
		t.Errorf("%d of %d deliveries were repeated", repeats, total)
	}
	states, err := s.States()
	harness.Figure(t, "%d events × %d rules over %d restarts, none lost, %d repeats; rows %v %v; stopped in %v",
		len(events), len(harness.Hooks), len(stopped), repeats, states, err, stopped)
	for _, d := range replicas {
		d.Terminate()
	}
}

// TestStaticReplicaRestarts restarts a replica with an instance id within the session timeout: it
// gets its partitions back, and the other replica's do not move.
func TestStaticReplicaRestarts(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 4)
	s.Rule("hook")
	named := func(id string) *harness.Daemon { return s.Serve("WEBHOOK_DISPATCHER_GROUP_INSTANCE_ID=" + id) }
	stays, restarts := named("pod-0"), named("pod-1")
	for _, d := range []*harness.Daemon{stays, restarts} {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 2, 30*time.Second)
	}
	before, err := stays.Metric("webhook_dispatcher_bus_generations_total")
	if err != nil {
		t.Fatal(err)
	}
	ids := s.Producer.Publish(harness.Registrations, 4, 1, 100)
	s.Delivers("hook", ids, 20*time.Second)
	restarts.Terminate()
	ids = append(ids, s.Producer.Publish(harness.Registrations, 4, 101, 200)...)
	restarts = named("pod-1")
	s.Delivers("hook", ids, 20*time.Second)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	for _, d := range []*harness.Daemon{stays, restarts} {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 2, 10*time.Second)
	}
	if after, err := stays.Metric("webhook_dispatcher_bus_generations_total"); err != nil || after != before {
		t.Errorf("the replica that stayed was in %v generations, then %v, %v; want no rebalance", before, after, err)
	}
	if n := s.Count("hook"); n != len(ids) {
		t.Errorf("%d requests for %d events", n, len(ids))
	}
	for _, d := range []*harness.Daemon{stays, restarts} {
		d.Terminate()
	}
}

// TestStoppedReplicaWritesNoResult stops a replica for longer than its leases: results it writes
// when it resumes must not count.
func TestStoppedReplicaWritesNoResult(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 1)
	rule := s.Rule("fenced")
	hold := make(chan struct{})
	s.On("fenced", func(n int, _ *harness.Received) harness.Reply {
		if n == 1 {
			return harness.Reply{Status: 500, After: hold}
		}
		return harness.Reply{Status: 200}
	})
	settings := []string{"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1h"}
	stopped := s.Serve(settings...)
	s.Producer.Publish(harness.Registrations, 1, 1, 1)
	harness.Eventually(t, 10*time.Second, "a leased row", func() error {
		return harness.Want("state", s.Row(rule).State, "leased")
	})
	harness.Eventually(t, 10*time.Second, "offset", func() error {
		return s.Producer.AllCommitted(harness.Registrations)
	})
	stopped.Signal(syscall.SIGSTOP)
	close(hold)
	other := s.Serve(settings...)
	harness.Eventually(t, harness.Lease+15*time.Second, "the row is delivered by the other replica", func() error {
		return harness.Want("row", s.Row(rule), harness.Row{State: "delivered", Attempts: 1, Status: 200})
	})
	stopped.Signal(syscall.SIGCONT)
	harness.Eventually(t, 20*time.Second, "the late result is discarded", func() error {
		n, err := stopped.Metric("webhook_dispatcher_results_discarded_total")
		if err == nil && n != 1 {
			err = fmt.Errorf("%v discarded", n)
		}
		return err
	})
	if err := harness.Want("row", s.Row(rule), harness.Row{State: "delivered", Attempts: 1, Status: 200}); err != nil {
		t.Error(err)
	}
	harness.Figure(t, "a result that came after its lease was discarded; %d requests", s.Count("fenced"))
	stopped.Terminate()
	other.Terminate()
}
