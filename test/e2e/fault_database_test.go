//go:build e2e

package e2e

import (
	"errors"
	"testing"
	"time"
)

// TestDatabaseAwayUnderLoad takes the database away under a stream of events: first without a word, as a machine goes whose cable
// is pulled, then with the daemon killed meanwhile and started while it is still away. What no row is needed for goes on, no
// position gets ahead of what is safe, and everything goes on when it is back.
func TestDatabaseAwayUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rules := s.threeRules()
	s.producer.create(registrations, 3)
	s.watchOffsets(registrations)
	db := newProxy(t, s.mariadb.address())
	settings := []string{s.through(db), "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s"}
	d := s.serve(settings...)
	idle := d.goroutines()
	events := s.producer.traffic(registrations, 3, 150, 1)
	eventually(t, 20*time.Second, "the first events", func() error { return atLeast(len(s.taken("first")), 300) })

	db.silence()
	begun := time.Now()
	without := len(s.taken("first"))
	eventually(t, 10*time.Second, "events without a database", func() error { return atLeast(len(s.taken("first")), without+300) })
	away := sized(15*time.Second, time.Minute)
	throughoutSlowly(t, time.Until(begun.Add(away)), "positions while the database is away", func() error {
		return s.settled(registrations, rules, events.acknowledged())
	})
	d.waitTrouble("database", "", 10*time.Second)
	db.restore(t)
	silent := s.recovers(registrations, events, recovery, d)

	db.refuse()
	eventually(t, 10*time.Second, "failures wait", func() error {
		n, err := d.metric(`webhook_dispatcher_queue_write_failures_total{what="rows"}`)
		return errors.Join(err, atLeast(int(n), 1))
	})
	d.kill()
	if err := s.settled(registrations, rules, events.acknowledged()); err != nil {
		t.Error("after a kill: ", err)
	}
	d = s.launch(settings...)
	throughoutSlowly(t, sized(5*time.Second, time.Minute), "positions without a database", func() error {
		return s.settled(registrations, rules, events.acknowledged())
	})
	db.restore(t)
	refused := s.recovers(registrations, events, lease+recovery, d)

	all := events.stop()
	s.allIsWell(registrations, all)
	total, repeats := s.repeats(all)
	figure(t, "%d events × %d rules; silent for %s: positions, deliveries caught up after %s; refusing, and the daemon killed: %s; "+
		"%d repeats of %d; goroutines %d idle, %d at the end; stopped in %s",
		len(all), len(hooks), away, silent, refused, repeats, total, idle, d.calmsDown(idle), d.terminate())
}

// throughoutSlowly is throughout for a check that costs more.
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

// TestDatabaseFull fills a MySQL until it refuses rows, as it does on a full disk. What has to become a row waits, in Kafka; what need
// not goes on; and when there is room again everything does.
func TestDatabaseFull(t *testing.T) {
	t.Parallel()
	// Tables share one file, which may not grow beyond a size. (MariaDB does the same and crashes on it.)
	mysql := ownServer(t, "mysql", "--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:64M",
		"--innodb-flush-log-at-trx-commit=2", "--skip-log-bin")
	s := newSite(t, mysql)
	rules := s.threeRules()
	s.producer.create(registrations, 3)
	s.watchOffsets(registrations)
	d := s.serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s")
	events := s.producer.traffic(registrations, 3, 60, 1)
	eventually(t, 20*time.Second, "rows", func() error { return atLeast(s.rows("state = 2"), 10) })

	filled := s.fill()
	says := d.waitTrouble("database", "full", 20*time.Second)
	before := len(s.taken("first"))
	eventually(t, 20*time.Second, "events without room for rows", func() error { return atLeast(len(s.taken("first")), before+60) })
	throughoutSlowly(t, sized(5*time.Second, time.Minute), "positions while rows are refused", func() error {
		return s.settled(registrations, rules, events.acknowledged())
	})
	if _, err := s.db.Exec("DROP TABLE filler"); err != nil {
		t.Fatal(err)
	}
	took := s.recovers(registrations, events, recovery, d)
	all := events.stop()
	s.allIsWell(registrations, all)
	if _, repeats := s.repeats(all); repeats > 0 {
		t.Errorf("%d deliveries were repeated", repeats)
	}
	figure(t, "%d events × %d rules; full after %d MB: %q; positions, deliveries caught up %s after there was room; stopped in %s",
		len(all), len(hooks), filled>>20, says, took, d.terminate())
}

// fill takes all the room that the database has, down to less than a small row's, and returns how much that was.
func (s *site) fill() (bytes int) {
	s.t.Helper()
	if _, err := s.db.Exec("CREATE TABLE filler (b LONGBLOB)"); err != nil {
		s.t.Fatal(err)
	}
	for size := 4 << 20; size > 256; {
		if _, err := s.db.Exec("INSERT INTO filler VALUES (REPEAT('x', ?))", size); err != nil {
			size /= 4
			continue
		}
		if bytes += size; bytes > 1<<30 {
			s.t.Fatal("the database does not get full")
		}
	}
	return bytes
}
