//go:build e2e

package e2e

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestRowsLockedByOthers locks the queue's rows and its tables for longer than the lock timeout and
// provokes deadlocks while rows are written and read. Nothing is lost or sent twice.
func TestRowsLockedByOthers(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	rules := s.ThreeRules()
	s.Producer.CreateTopic(harness.Registrations, 3)
	s.WatchOffsets(harness.Registrations)
	d := s.Serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s", "WEBHOOK_DISPATCHER_LOG_LEVEL=debug")
	events := s.Producer.StartTraffic(harness.Registrations, 3, 100, 1)
	harness.Eventually(t, 20*time.Second, "rows", func() error {
		return harness.AtLeast(s.Rows("state = 2"), 50)
	})
	held := harness.Sized(8*time.Second, 40*time.Second)
	var took [][2]time.Duration
	for _, lock := range []struct{ begin, take, end string }{
		{"START TRANSACTION", "SELECT COUNT(*) FROM (SELECT id FROM webhook_dispatcher_delivery FOR UPDATE) locked", "ROLLBACK"},
		{"DO 0", "LOCK TABLES webhook_dispatcher_delivery WRITE, webhook_dispatcher_attempt WRITE", "UNLOCK TABLES"},
	} {
		session := openSession(s)
		session(lock.begin)
		session(lock.take)
		begun, before := time.Now(), len(s.Taken("first"))
		harness.Eventually(t, 10*time.Second, "events that need no row", func() error {
			return harness.AtLeast(len(s.Taken("first")), before+300)
		})
		<-time.After(time.Until(begun.Add(held)))
		session(lock.end)
		took = append(took, s.Recovers(harness.Registrations, events, harness.Recovery, d))
		if err := s.Settled(harness.Registrations, rules, events.Acknowledged()); err != nil {
			t.Error(err)
		}
	}
	deadlocks := provokeDeadlocks(s, d, 3)
	took = append(took, s.Recovers(harness.Registrations, events, harness.Recovery, d))
	all := events.Stop()
	s.AllIsWell(harness.Registrations, all)
	waits := strings.Count(d.Log.String(), "Error 1205")
	if waits == 0 {
		t.Error("no statement has waited in vain for a lock")
	}
	total, repeats := s.Repeats(all)
	if repeats > 0 {
		t.Errorf("%d of %d deliveries were repeated", repeats, total)
	}
	harness.Figure(t, "%d events × %d rules; rows and then tables locked for %s, %d waits in vain, %d deadlocks: "+
		"positions, deliveries caught up after %v; stopped in %s",
		len(all), len(harness.Hooks), held, waits, deadlocks, took, d.Terminate())
}

// openSession returns a function that runs statements on one connection.
func openSession(s *harness.Site) func(statement string) {
	s.T.Helper()
	conn, err := s.DB.Conn(context.Background())
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { _ = conn.Close() })
	return func(statement string) {
		s.T.Helper()
		if _, err := conn.ExecContext(context.Background(), statement); err != nil {
			s.T.Fatalf("%s: %v", statement, err)
		}
	}
}

// provokeDeadlocks locks rows in another order than the daemon until the daemon has been the victim
// n times, and returns how often it was.
func provokeDeadlocks(s *harness.Site, d *harness.Daemon, n int) int {
	s.T.Helper()
	if _, err := s.DB.Exec("CREATE TABLE heavy (a INT)"); err != nil {
		s.T.Fatal(err)
	}
	victim := func() int { return strings.Count(d.Log.String(), "Error 1213") }
	// The database rolls back the transaction that has changed fewer rows.
	const heavy = "INSERT INTO heavy SELECT 1 FROM (SELECT 1 FROM webhook_dispatcher_delivery LIMIT 200) some"
	ctx := context.Background()
	provoke := func() error {
		tx, err := s.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.Exec(heavy); err != nil {
			return err
		}
		ids, err := waiting(tx)
		if err != nil {
			return err
		}
		rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		for _, id := range ids {
			if _, err := tx.Exec("UPDATE webhook_dispatcher_delivery SET traceparent = traceparent WHERE id = ?", id); err != nil {
				return nil // this side was the victim
			}
			<-time.After(2 * time.Millisecond) // or a fast machine is through before the daemon comes
		}
		return nil
	}
	harness.Eventually(s.T, 40*time.Second, "deadlocks", func() error {
		if err := provoke(); err != nil {
			return err
		}
		return harness.AtLeast(victim(), n)
	})
	return victim()
}

// waiting returns the ids of the rows that have not ended.
func waiting(tx *sql.Tx) (ids []int64, err error) {
	rows, err := tx.Query("SELECT id FROM webhook_dispatcher_delivery WHERE state < 2")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
