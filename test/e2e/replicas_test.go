//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// lease is how long a row stays with its replica, at the daemon's default timeout or below 22 s.
const lease = time.Minute

// TestTwoReplicas shows who sends a row: the one that holds its lease, and another only after the lease has run out.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 4)
	s.rule("held")
	settings := []string{"WEBHOOK_DISPATCHER_TIMEOUT=20s", "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s"}
	first := s.serve(settings...)
	second := s.launch(settings...)
	second.waitReady(30 * time.Second)
	for _, d := range []*daemon{first, second} {
		d.metricIs("webhook_dispatcher_bus_partitions_assigned", 2, 30*time.Second)
	}

	// Every request is held, so each first try becomes a row leased by the replica that makes it.
	hold := make(chan struct{})
	s.on("held", func(int, *received) reply { return reply{status: 200, after: hold} })
	ids := s.producer.publish(registrations, 4, 1, 16) // as many as two lanes have places that have proved nothing yet
	eventually(t, 20*time.Second, "requests", func() error { return want("number", s.count("held"), len(ids)) })
	eventually(t, 20*time.Second, "leased rows", func() error {
		states, err := s.states()
		return errors.Join(err, want("leased", states["leased"], len(ids)))
	})
	eventually(t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	leasedAt := time.Now()
	throughout(t, 3*time.Second, "requests while leases hold", func() error { return want("number", s.count("held"), len(ids)) })

	// The first replica dies with its requests; the second one's end well.
	first.kill()
	close(hold)
	s.on("held", answers(200))
	var left int
	eventually(t, 10*time.Second, "the second replica's rows are delivered", func() error {
		states, err := s.states()
		left = states["leased"]
		return errors.Join(err, want("delivered", states["delivered"], len(ids)/2))
	})
	throughout(t, time.Until(leasedAt.Add(lease-12*time.Second)), "rows of the killed replica", func() error {
		return want("number of requests", s.count("held"), len(ids))
	})
	eventually(t, 45*time.Second, "rows of the killed replica are delivered", func() error {
		states, err := s.states()
		return errors.Join(err, want("delivered", states["delivered"], len(ids)))
	})
	for _, id := range ids {
		if s.taken("held")[id] == 0 {
			t.Errorf("event %s was not delivered", id)
		}
	}
	figure(t, "%d rows; %d of a killed replica sent %s after they were leased; stopped in %s",
		len(ids), left, since(leasedAt), second.terminate())
}

// TestSharedRowsAreSentOnce lets two replicas work through rows that are due at the same time.
func TestSharedRowsAreSentOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 4)
	s.rule("shared")
	s.on("shared", answers(500, 200))
	settings := []string{"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=3s,3s,3s"}
	replicas := []*daemon{s.serve(settings...), s.launch(settings...)}
	for _, d := range replicas {
		d.metricIs("webhook_dispatcher_bus_partitions_assigned", 2, 30*time.Second)
	}
	ids := s.producer.publish(registrations, 4, 1, 2000)
	eventually(t, 60*time.Second, "deliveries", func() error { return want("delivered", len(s.taken("shared")), len(ids)) })
	eventually(t, 10*time.Second, "rows", s.allDelivered)
	if n := s.count("shared"); n != 2*len(ids) {
		t.Errorf("%d requests, want %d: a failure and a success for each event", n, 2*len(ids))
	}
	var shares []float64
	for _, d := range replicas {
		n, err := d.metric("webhook_dispatcher_rows_claimed_total")
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, n)
	}
	figure(t, "%d rows, claimed %v by the two replicas, each sent once", len(ids), shares)
	for _, d := range replicas {
		d.terminate()
	}
}

// TestRollingRestart replaces both replicas again and again under a stream of events, as a deployment does. Each one settles what it
// has read before another gets its partitions, so nothing is lost and nothing comes twice.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lean = true
	for _, hook := range hooks {
		s.rule(hook)
	}
	s.on("second", func(_ int, r *received) reply { // slower than the hand-off time, now and then
		if r.At.UnixNano()%10 == 0 {
			return reply{status: 200, after: passed(700 * time.Millisecond)}
		}
		return reply{status: 200}
	})
	s.on("failing", func(n int, r *received) reply {
		if n == 1 && r.At.UnixNano()%4 == 0 {
			return reply{status: 500}
		}
		return reply{status: 200}
	})
	s.producer.create(registrations, 6)
	s.watchOffsets(registrations)
	settings := "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s"
	replicas := []*daemon{s.serve(settings), s.launch(settings)}
	stream := s.publish("--type", "student.registration.completed", "--count", "100000", "--rate", "300")
	var stopped []time.Duration
	for i := range 6 {
		old := replicas[i%2]
		for _, d := range replicas {
			d.metricIs("webhook_dispatcher_bus_partitions_assigned", 3, 40*time.Second)
		}
		before := len(s.taken("first"))
		eventually(t, 20*time.Second, "events", func() error { return atLeast(len(s.taken("first")), before+300) })
		stopped = append(stopped, old.terminate())
		replicas[i%2] = s.launch(settings)
	}
	events := stream.stop()
	eventually(t, 60*time.Second, "every event at every rule", func() error { return s.missing(events) })
	eventually(t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	eventually(t, 90*time.Second, "rows", s.allDelivered)
	total, repeats := s.repeats(events)
	if repeats > 0 {
		t.Errorf("%d of %d deliveries were repeated", repeats, total)
	}
	states, err := s.states()
	figure(t, "%d events × %d rules over %d restarts, none lost, %d repeats; rows %v %v; stopped in %v",
		len(events), len(hooks), len(stopped), repeats, states, err, stopped)
	for _, d := range replicas {
		d.terminate()
	}
}

// TestStoppedReplicaWritesNoResult stops a replica beyond its leases: what it writes when it goes on must not count.
func TestStoppedReplicaWritesNoResult(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 1)
	rule := s.rule("fenced")
	hold := make(chan struct{})
	s.on("fenced", func(n int, _ *received) reply {
		if n == 1 {
			return reply{status: 500, after: hold}
		}
		return reply{status: 200}
	})
	settings := []string{"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1h"}
	stopped := s.serve(settings...)
	s.producer.publish(registrations, 1, 1, 1)
	eventually(t, 10*time.Second, "a leased row", func() error { return want("state", s.row(rule).state, "leased") })
	eventually(t, 10*time.Second, "offset", func() error { return s.producer.allCommitted(registrations) })
	stopped.signal(syscall.SIGSTOP)
	close(hold)
	other := s.serve(settings...)
	eventually(t, lease+15*time.Second, "the row is delivered by the other replica", func() error {
		return want("row", s.row(rule), row{state: "delivered", attempts: 1, status: 200})
	})
	stopped.signal(syscall.SIGCONT)
	eventually(t, 20*time.Second, "the late result is discarded", func() error {
		n, err := stopped.metric("webhook_dispatcher_results_discarded_total")
		if err == nil && n != 1 {
			err = fmt.Errorf("%v discarded", n)
		}
		return err
	})
	if err := want("row", s.row(rule), row{state: "delivered", attempts: 1, status: 200}); err != nil {
		t.Error(err)
	}
	figure(t, "a result that came after its lease was discarded; %d requests", s.count("fenced"))
	stopped.terminate()
	other.terminate()
}
