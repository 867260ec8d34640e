//go:build e2e

package e2e

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestRowsLockedByOthers locks the queue's rows, and its tables, for longer than a lock is waited for, and makes deadlocks, while rows
// are written and read all the time. Nothing is lost, and nothing is sent twice.
func TestRowsLockedByOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rules := s.threeRules()
	s.producer.create(registrations, 3)
	s.watchOffsets(registrations)
	d := s.serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s", "WEBHOOK_DISPATCHER_LOG_LEVEL=debug")
	events := s.producer.traffic(registrations, 3, 100, 1)
	eventually(t, 20*time.Second, "rows", func() error { return atLeast(s.rows("state = 2"), 50) })
	held := sized(8*time.Second, 40*time.Second)
	var took [][2]time.Duration
	for _, lock := range []struct{ begin, take, end string }{
		{"START TRANSACTION", "SELECT COUNT(*) FROM (SELECT id FROM webhook_dispatcher_delivery FOR UPDATE) locked", "ROLLBACK"},
		{"DO 0", "LOCK TABLES webhook_dispatcher_delivery WRITE, webhook_dispatcher_attempt WRITE", "UNLOCK TABLES"},
	} {
		session := s.session()
		session(lock.begin)
		session(lock.take)
		begun, before := time.Now(), len(s.taken("first"))
		eventually(t, 10*time.Second, "events that need no row", func() error { return atLeast(len(s.taken("first")), before+300) })
		<-time.After(time.Until(begun.Add(held)))
		session(lock.end)
		took = append(took, s.recovers(registrations, events, recovery, d))
		if err := s.settled(registrations, rules, events.acknowledged()); err != nil {
			t.Error(err)
		}
	}
	deadlocks := s.deadlocks(d, 3)
	took = append(took, s.recovers(registrations, events, recovery, d))
	all := events.stop()
	s.allIsWell(registrations, all)
	waits := strings.Count(d.log.String(), "Error 1205")
	if waits == 0 {
		t.Error("no statement has waited in vain for a lock")
	}
	total, repeats := s.repeats(all)
	if repeats > 0 {
		t.Errorf("%d of %d deliveries were repeated", repeats, total)
	}
	figure(t, "%d events × %d rules; rows and then tables locked for %s, %d waits in vain, %d deadlocks: "+
		"positions, deliveries caught up after %v; stopped in %s",
		len(all), len(hooks), held, waits, deadlocks, took, d.terminate())
}

// session returns a function that runs statements on one connection.
func (s *site) session() func(statement string) {
	s.t.Helper()
	conn, err := s.db.Conn(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return func(statement string) {
		s.t.Helper()
		if _, err := conn.ExecContext(context.Background(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// deadlocks locks rows in another order than the daemon does, until it has been the victim n times, and returns how often it was.
func (s *site) deadlocks(d *daemon, n int) int {
	s.t.Helper()
	if _, err := s.db.Exec("CREATE TABLE heavy (a INT)"); err != nil {
		s.t.Fatal(err)
	}
	victim := func() int { return strings.Count(d.log.String(), "Error 1213") }
	// Where two fit, the one that has changed less is undone.
	const heavy = "INSERT INTO heavy SELECT 1 FROM (SELECT 1 FROM webhook_dispatcher_delivery LIMIT 200) some"
	ctx := context.Background()
	provoke := func() error {
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
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
		}
		return nil
	}
	eventually(s.t, 40*time.Second, "deadlocks", func() error {
		if err := provoke(); err != nil {
			return err
		}
		return atLeast(victim(), n)
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
