//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// TestKilledAmongManyEvents kills the daemon with SIGKILL, several times, while it works through the events of a real publisher.
// One of its three rules fails every second request. Each event must arrive at each rule at least once.
func TestKilledAmongManyEvents(t *testing.T) {
	t.Parallel()
	const settings = "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"
	count := 20_000
	if text := os.Getenv("WEBHOOK_DISPATCHER_E2E_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("WEBHOOK_DISPATCHER_E2E_EVENTS=%s: %v", text, err)
		}
		count = n
	}
	s := newSite(t)
	s.lean = true
	var requests atomic.Int64
	s.on("failing", func(int, *received) reply {
		if requests.Add(1)%2 == 0 {
			return reply{status: 500}
		}
		return reply{status: 200}
	})
	for _, hook := range hooks {
		s.rule(hook)
	}
	begun := time.Now()
	stream := s.publish("--type", "student.registration.completed", "--count", strconv.Itoa(count), "--create-topics", "4")
	eventually(t, 30*time.Second, "the topic", func() error { _, err := s.producer.ends(registrations); return err })

	kills := 0
	d := s.serve(settings)
	for _, share := range []int{10, 30, 55, 80} {
		eventually(t, 90*time.Second, fmt.Sprintf("%d %% of the events", share), func() error {
			return atLeast(len(s.taken("first")), count*share/100)
		})
		d.kill()
		kills++
		d = s.launch(settings)
	}
	events := stream.all()
	published := since(begun)
	if len(events) != count {
		t.Fatalf("the publisher published %d events", len(events))
	}
	eventually(t, 150*time.Second, "every event at every rule", func() error { return s.missing(events) })
	eventually(t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	total, repeats := s.repeats(events)
	took := since(begun)
	eventually(t, 90*time.Second, "rows", func() error { return s.allDelivered() })
	stopped := d.terminate()
	states, err := s.states()
	figure(t, "%d events × %d rules, %d kills: all delivered in %s (published in %s); %d repeats, %.1f %%; rows %v %v; stopped in %s",
		count, len(hooks), kills, took, published, repeats, 100*float64(repeats)/float64(total), states, err, stopped)
}

// hooks of a test in which one of several endpoints fails.
var hooks = []string{"first", "second", "failing"}

// missing returns an error that counts the events that one of the hooks has not taken yet.
func (s *site) missing(events []published) error {
	var errs []error
	for _, hook := range hooks {
		taken, missing := s.taken(hook), 0
		for _, e := range events {
			if taken[e.ID] == 0 {
				missing++
			}
		}
		if missing > 0 {
			errs = append(errs, fmt.Errorf("%d events are missing at %s", missing, hook))
		}
	}
	return errors.Join(errs...)
}

// repeats returns how many deliveries were taken in all, and how many of them more often than once.
func (s *site) repeats(events []published) (total, repeats int) {
	for _, hook := range hooks {
		taken := s.taken(hook)
		for _, e := range events {
			total += taken[e.ID]
			repeats += taken[e.ID] - 1
		}
	}
	return total, repeats
}

// allDelivered returns nil when every row is delivered.
func (s *site) allDelivered() error {
	states, err := s.states()
	if err != nil {
		return err
	}
	if delivered := states["delivered"]; len(states) > 1 || len(states) == 1 && delivered == 0 {
		return fmt.Errorf("rows: %v", states)
	}
	return nil
}
