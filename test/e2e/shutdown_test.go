//go:build e2e

package e2e

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// TestTerminatedWithRequestsInFlight sends SIGTERM while requests go on that end in time: the daemon finishes them.
func TestTerminatedWithRequestsInFlight(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 2)
	s.rule("first")
	release := make(chan struct{})
	s.on("first", func(int, *received) reply { return reply{status: 200, after: release} })
	d := s.serve("WEBHOOK_DISPATCHER_ENDPOINT_CONCURRENCY=8")
	ids := s.producer.publish(registrations, 2, 1, 100)
	eventually(t, 20*time.Second, "requests", func() error { return atLeast(s.count("first"), 8) })
	d.signal(syscall.SIGTERM)
	begun := time.Now()
	eventually(t, 10*time.Second, "the group is left", func() error {
		n, err := s.producer.members()
		return errors.Join(err, want("members", n, 0))
	})
	left := since(begun)
	close(release)
	if code := d.exit(stopTime - time.Since(begun)); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	stopped := since(begun)
	states, err := s.states()
	if err != nil {
		t.Fatal(err)
	}
	finished := len(s.taken("first"))
	next := s.serve()
	s.delivers("first", ids, 30*time.Second)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	eventually(t, 30*time.Second, "rows", s.allDelivered)
	for id, n := range s.taken("first") {
		if n != 1 {
			t.Errorf("event %s was sent %d times", id, n)
		}
	}
	figure(t, "group left after %s, stopped after %s with %d of %d events delivered and rows %v; the rest by the next daemon",
		left, stopped, finished, len(ids), states)
	next.terminate()
}

// TestTerminatedWithRequestsThatHang does not wait for an endpoint that answers never: it gives up on what is under way, which
// another daemon sends again.
func TestTerminatedWithRequestsThatHang(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 2)
	s.rule("first")
	never := make(chan struct{})
	s.on("first", func(int, *received) reply { return reply{status: 200, after: never} })
	settings := []string{"WEBHOOK_DISPATCHER_TIMEOUT=22s", "WEBHOOK_DISPATCHER_ENDPOINT_CONCURRENCY=8", "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s"}
	d := s.serve(settings...)
	ids := s.producer.publish(registrations, 2, 1, 50)
	eventually(t, 20*time.Second, "requests", func() error { return atLeast(s.count("first"), 8) })
	stopped := d.terminate()
	states, err := s.states()
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.producer.members()
	if err := errors.Join(err, want("members of the group", n, 0)); err != nil {
		t.Error(err)
	}
	s.on("first", answers(200))
	begun := time.Now()
	next := s.launch()
	s.delivers("first", ids, lease+30*time.Second)
	took := since(begun)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	figure(t, "stopped after %s with rows %v; all %d events delivered by the next daemon after %s", stopped, states, len(ids), took)
	next.terminate()
}

// TestTerminatedTwice sends a second signal while the first one's stop waits.
func TestTerminatedTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 1)
	s.rule("first")
	never := make(chan struct{})
	s.on("first", func(int, *received) reply { return reply{status: 200, after: never} })
	d := s.serve("WEBHOOK_DISPATCHER_TIMEOUT=60s")
	ids := s.producer.publish(registrations, 1, 1, 3)
	eventually(t, 20*time.Second, "requests", func() error { return want("number", s.count("first"), len(ids)) })
	d.signal(syscall.SIGTERM)
	eventually(t, 10*time.Second, "the group is left", func() error {
		n, err := s.producer.members()
		return errors.Join(err, want("members", n, 0))
	})
	begun := time.Now()
	d.signal(syscall.SIGTERM)
	code := d.exit(2 * time.Second)
	if code == 0 {
		t.Error("exit code 0 after a second signal")
	}
	figure(t, "ended %s after the second signal with exit code %d", since(begun), code)
}
