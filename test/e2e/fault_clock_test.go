//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestClocksThatJump sets the database's clock and then the daemon's an hour forward and back while
// rows are written, claimed and sent. A jump forward makes rows due early and leases run out. A
// jump back delays rows that are due, by as long as the jump at most. Deliveries without rows and
// new rows are not affected.
func TestClocksThatJump(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	dir := t.TempDir()
	database, own := harness.Clock(filepath.Join(dir, "database")), harness.Clock(filepath.Join(dir, "daemon"))
	database.Set(t, 0)
	own.Set(t, 0)
	mariadb := database.Server(t, "mariadb")
	s := harness.NewSite(t, mariadb)
	rules := s.ThreeRules()
	s.Lean = false // because webhook-timestamp is checked
	hold := make(chan struct{})
	s.On("second", func(n int, r *harness.Received) harness.Reply { // requests whose leases run out in flight
		if n == 1 && strings.HasSuffix(r.Event, "00") {
			return harness.Reply{Status: 200, After: hold}
		}
		return harness.Reply{Status: 200}
	})
	s.Producer.CreateTopic(harness.Registrations, 3)
	s.WatchOffsets(harness.Registrations)
	d := s.ServeClocked(own, "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=3s,3s,3s,3s,3s,3s", "WEBHOOK_DISPATCHER_TIMEOUT=30s")
	idle := d.Goroutines()
	generations := func() float64 {
		n, err := d.Metric("webhook_dispatcher_bus_generations_total")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	joined := generations()
	now := func() time.Time {
		t.Helper()
		var at time.Time
		if err := s.DB.QueryRow("SELECT UTC_TIMESTAMP(3)").Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	events := s.Producer.StartTraffic(harness.Registrations, 3, 60, 1)
	harness.Eventually(t, 20*time.Second, "rows", func() error {
		return harness.AtLeast(s.Rows("state = 2"), 20)
	})
	harness.Eventually(t, 20*time.Second, "leases", func() error {
		return harness.AtLeast(s.Rows("state = 1"), 2)
	})

	// Forward: all waiting rows are due at once, and all leases have run out.
	database.Set(t, hour)
	if ahead := time.Until(now()); ahead < hour-time.Minute {
		t.Fatalf("the database's clock is %s ahead", ahead)
	}
	time.AfterFunc(3*time.Second, func() { close(hold) })
	forward := s.Recovers(harness.Registrations, events, harness.Recovery, d)

	// Back: rows scheduled by the clock that was ahead wait for it; new ones do not.
	harness.Eventually(t, 20*time.Second, "rows that wait", func() error {
		return harness.AtLeast(s.Rows("state = 0"), 5)
	})
	database.Set(t, 0)
	late := s.Rows("state < 2 AND due_at > DATE_ADD(UTC_TIMESTAMP(3), INTERVAL 30 MINUTE)")
	if n := s.Rows("state < 2 AND due_at > DATE_ADD(UTC_TIMESTAMP(3), INTERVAL 62 MINUTE)"); late == 0 || n > 0 {
		t.Errorf("%d rows wait for the jump, %d for longer", late, n)
	}
	before := events.Acknowledged()
	harness.Eventually(t, harness.Recovery, "rows after the jump back", func() error {
		taken, fresh := s.Taken("failing"), 0
		for _, e := range events.Acknowledged()[len(before):] {
			if harness.EveryFourthFails(1, &harness.Received{Event: e.ID}).Status != 200 && taken[e.ID] > 0 {
				fresh++
			}
		}
		return harness.AtLeast(fresh, 40)
	})
	if err := s.Settled(harness.Registrations, rules, events.Acknowledged()); err != nil {
		t.Error(err)
	}
	database.Set(t, hour)
	again := s.Recovers(harness.Registrations, events, harness.Recovery, d)

	// The daemon's own clock: nothing depends on it.
	var took [][2]time.Duration
	for _, jump := range []time.Duration{hour, -hour, 0} {
		own.Set(t, jump)
		harness.Eventually(t, 10*time.Second, "the daemon's clock", func() error {
			list := stamps(s, "first")
			if len(list) == 0 {
				return errors.New("no request")
			}
			if off := time.Until(list[len(list)-1]) - jump; off.Abs() > time.Minute {
				return fmt.Errorf("webhook-timestamp is off by %s", off)
			}
			return nil
		})
		took = append(took, s.Recovers(harness.Registrations, events, harness.Recovery, d))
	}
	all := events.Stop()
	s.AllIsWell(harness.Registrations, all)
	if n := generations(); n != joined {
		t.Errorf("the group was joined %v times more", n-joined)
	}
	total, repeats := s.Repeats(all)
	harness.Figure(t,
		"%d events × %d rules; the database's clock an hour on, back and on again: caught up after %s, %d rows waited for it, %s; "+
			"the daemon's on, back and right: %s; %d repeats of %d; goroutines %d idle, %d at the end; stopped in %s",
		len(all), len(harness.Hooks), forward, late, again, took, repeats, total, idle, d.WaitIdle(idle), d.Terminate())
}

// stamps returns the webhook-timestamps of the requests of a hook.
func stamps(s *harness.Site, hook string) (list []time.Time) {
	for _, request := range s.Got(hook) {
		if n, err := strconv.ParseInt(request.Header.Get("webhook-timestamp"), 10, 64); err == nil {
			list = append(list, time.Unix(n, 0))
		}
	}
	return list
}
