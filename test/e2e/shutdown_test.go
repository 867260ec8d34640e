//go:build e2e

package e2e

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestTerminatedWithRequestsInFlight sends SIGTERM while requests are in flight that end in time:
// the daemon finishes them.
func TestTerminatedWithRequestsInFlight(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 2)
	s.Rule("first")
	release := make(chan struct{})
	s.On("first", func(int, *harness.Received) harness.Reply { return harness.Reply{Status: 200, After: release} })
	d := s.Serve("WEBHOOK_DISPATCHER_ENDPOINT_CONCURRENCY=8")
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 100)
	harness.Eventually(t, 20*time.Second, "requests", func() error {
		return harness.AtLeast(s.Count("first"), 8)
	})
	d.Signal(syscall.SIGTERM)
	begun := time.Now()
	harness.Eventually(t, 10*time.Second, "the group is left", func() error {
		n, err := s.Producer.Members()
		return errors.Join(err, harness.Want("members", n, 0))
	})
	left := harness.Since(begun)
	close(release)
	if code := d.WaitExit(harness.StopTime - time.Since(begun)); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	stopped := harness.Since(begun)
	states, err := s.States()
	if err != nil {
		t.Fatal(err)
	}
	finished := len(s.Taken("first"))
	next := s.Serve()
	s.Delivers("first", ids, 30*time.Second)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	harness.Eventually(t, 30*time.Second, "rows", s.AllDelivered)
	for id, n := range s.Taken("first") {
		if n != 1 {
			t.Errorf("event %s was sent %d times", id, n)
		}
	}
	harness.Figure(t,
		"group left after %s, stopped after %s with %d of %d events delivered and rows %v; the rest by the next daemon",
		left, stopped, finished, len(ids), states)
	next.Terminate()
}

// TestTerminatedWithRequestsThatHang has an endpoint that never answers: the daemon abandons its
// requests, and another daemon sends them again.
func TestTerminatedWithRequestsThatHang(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 2)
	s.Rule("first")
	never := make(chan struct{})
	s.On("first", func(int, *harness.Received) harness.Reply { return harness.Reply{Status: 200, After: never} })
	settings := []string{"WEBHOOK_DISPATCHER_TIMEOUT=22s", "WEBHOOK_DISPATCHER_ENDPOINT_CONCURRENCY=8", "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s"}
	d := s.Serve(settings...)
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 50)
	harness.Eventually(t, 20*time.Second, "requests", func() error {
		return harness.AtLeast(s.Count("first"), 8)
	})
	stopped := d.Terminate()
	states, err := s.States()
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.Producer.Members()
	if err := errors.Join(err, harness.Want("members of the group", n, 0)); err != nil {
		t.Error(err)
	}
	s.On("first", harness.Answers(200))
	begun := time.Now()
	next := s.Launch()
	s.Delivers("first", ids, harness.Lease+30*time.Second)
	took := harness.Since(begun)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	harness.Figure(t,
		"stopped after %s with rows %v; all %d events delivered by the next daemon after %s",
		stopped, states, len(ids), took)
	next.Terminate()
}

// TestTerminatedTwice sends a second SIGTERM while the daemon waits for its requests.
func TestTerminatedTwice(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 1)
	s.Rule("first")
	never := make(chan struct{})
	s.On("first", func(int, *harness.Received) harness.Reply { return harness.Reply{Status: 200, After: never} })
	d := s.Serve("WEBHOOK_DISPATCHER_TIMEOUT=60s")
	ids := s.Producer.Publish(harness.Registrations, 1, 1, 3)
	harness.Eventually(t, 20*time.Second, "requests", func() error {
		return harness.Want("number", s.Count("first"), len(ids))
	})
	d.Signal(syscall.SIGTERM)
	harness.Eventually(t, 10*time.Second, "the group is left", func() error {
		n, err := s.Producer.Members()
		return errors.Join(err, harness.Want("members", n, 0))
	})
	begun := time.Now()
	d.Signal(syscall.SIGTERM)
	code := d.WaitExit(2 * time.Second)
	if code == 0 {
		t.Error("exit code 0 after a second signal")
	}
	harness.Figure(t, "ended %s after the second signal with exit code %d", harness.Since(begun), code)
}
