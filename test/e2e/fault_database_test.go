//go:build e2e

package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestDatabaseAwayUnderLoad makes the database unreachable during a stream of events: first
// silently, as if a cable were pulled, then refusing, while the daemon is killed and restarted.
// Deliveries that need no row continue, no committed offset gets ahead of what is durable, and
// everything continues when the database is back.
func TestDatabaseAwayUnderLoad(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	rules := s.ThreeRules()
	s.Producer.CreateTopic(harness.Registrations, 3)
	s.WatchOffsets(harness.Registrations)
	db := harness.NewProxy(t, s.MariaDB.Address())
	settings := []string{s.Through(db), "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s"}
	d := s.Serve(settings...)
	idle := d.Goroutines()
	events := s.Producer.StartTraffic(harness.Registrations, 3, 150, 1)
	harness.Eventually(t, 20*time.Second, "the first events", func() error {
		return harness.AtLeast(len(s.Taken("first")), 300)
	})

	db.Silence()
	begun := time.Now()
	without := len(s.Taken("first"))
	harness.Eventually(t, 10*time.Second, "events without a database", func() error {
		return harness.AtLeast(len(s.Taken("first")), without+300)
	})
	away := harness.Sized(15*time.Second, time.Minute)
	throughoutSlowly(t, time.Until(begun.Add(away)), "positions while the database is away", func() error {
		return s.Settled(harness.Registrations, rules, events.Acknowledged())
	})
	d.WaitNotReady("database", "", 10*time.Second)
	db.Restore(t)
	silent := s.Recovers(harness.Registrations, events, harness.Recovery, d)

	db.Refuse()
	harness.Eventually(t, 10*time.Second, "failures wait", func() error {
		n, err := d.Metric(`webhook_dispatcher_queue_write_failures_total{what="rows"}`)
		return errors.Join(err, harness.AtLeast(int(n), 1))
	})
	d.Kill()
	if err := s.Settled(harness.Registrations, rules, events.Acknowledged()); err != nil {
		t.Error("after a kill: ", err)
	}
	d = s.Launch(settings...)
	throughoutSlowly(t, harness.Sized(5*time.Second, time.Minute), "positions without a database", func() error {
		return s.Settled(harness.Registrations, rules, events.Acknowledged())
	})
	db.Restore(t)
	refused := s.Recovers(harness.Registrations, events, harness.Lease+harness.Recovery, d)

	all := events.Stop()
	s.AllIsWell(harness.Registrations, all)
	total, repeats := s.Repeats(all)
	harness.Figure(t,
		"%d events × %d rules; silent for %s: positions, deliveries caught up after %s; refusing, and the daemon killed: %s; "+
			"%d repeats of %d; goroutines %d idle, %d at the end; stopped in %s",
		len(all), len(harness.Hooks), away, silent, refused, repeats, total, idle, d.WaitIdle(idle), d.Terminate())
}

// throughoutSlowly is harness.Throughout for an expensive check.
func throughoutSlowly(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		if err := check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if time.Now().After(end) {
			return
		}
	}
}

// TestDatabaseFull fills a MySQL until it refuses rows, as on a full disk. Deliveries that must
// become rows wait in Kafka, others continue, and everything continues when there is room again.
func TestDatabaseFull(t *testing.T) {
	t.Parallel()
	// All tables share one file of limited size. (MariaDB has the option too, but crashes.)
	mysql := harness.OwnServer(t, "mysql", "--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:64M",
		"--innodb-flush-log-at-trx-commit=2", "--skip-log-bin")
	s := harness.NewSite(t, mysql)
	rules := s.ThreeRules()
	s.Producer.CreateTopic(harness.Registrations, 3)
	s.WatchOffsets(harness.Registrations)
	d := s.Serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s")
	events := s.Producer.StartTraffic(harness.Registrations, 3, 60, 1)
	harness.Eventually(t, 20*time.Second, "rows", func() error {
		return harness.AtLeast(s.Rows("state = 2"), 10)
	})

	filled := fillDatabase(s)
	says := d.WaitNotReady("database", "full", 20*time.Second)
	before := len(s.Taken("first"))
	harness.Eventually(t, 20*time.Second, "events without room for rows", func() error {
		return harness.AtLeast(len(s.Taken("first")), before+60)
	})
	throughoutSlowly(t, harness.Sized(5*time.Second, time.Minute), "positions while rows are refused", func() error {
		return s.Settled(harness.Registrations, rules, events.Acknowledged())
	})
	if _, err := s.DB.Exec("DROP TABLE filler"); err != nil {
		t.Fatal(err)
	}
	took := s.Recovers(harness.Registrations, events, harness.Recovery, d)
	all := events.Stop()
	s.AllIsWell(harness.Registrations, all)
	if _, repeats := s.Repeats(all); repeats > 0 {
		t.Errorf("%d deliveries were repeated", repeats)
	}
	harness.Figure(t,
		"%d events × %d rules; full after %d MB: %q; positions, deliveries caught up %s after there was room; stopped in %s",
		len(all), len(harness.Hooks), filled>>20, says, took, d.Terminate())
}

// fillDatabase uses up the database's space until not even a small row fits, and returns how much
// that was.
func fillDatabase(s *harness.Site) (bytes int) {
	s.T.Helper()
	if _, err := s.DB.Exec("CREATE TABLE filler (b LONGBLOB)"); err != nil {
		s.T.Fatal(err)
	}
	for size := 4 << 20; size > 256; {
		if _, err := s.DB.Exec("INSERT INTO filler VALUES (REPEAT('x', ?))", size); err != nil {
			size /= 4
			continue
		}
		if bytes += size; bytes > 1<<30 {
			s.T.Fatal("the database does not get full")
		}
	}
	return bytes
}
