//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestRebalancesUnderLoad has a third replica join and leave the group every few seconds during a
// stream of events, by SIGTERM and SIGKILL in turn. Partitions and a topic are added meanwhile.
func TestRebalancesUnderLoad(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	rules := s.ThreeRules()
	s.Producer.CreateTopic(harness.Registrations, 6)
	s.WatchOffsets(harness.Registrations, "later")
	settings := []string{
		"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s",
		"WEBHOOK_DISPATCHER_TOPICS=" + harness.Registrations + ",later",
	}
	steady := []*harness.Daemon{s.Serve(settings...), s.Launch(settings...)}
	for _, d := range steady {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 3, 40*time.Second)
	}
	idle := []int{steady[0].Goroutines(), steady[1].Goroutines()}
	events := s.Producer.StartTraffic(harness.Registrations, 6, 150, 1)
	var added []harness.Published
	rounds, kills := harness.Sized(6, 40), 0
	for round := range rounds {
		third := s.Launch(settings...)
		third.WaitReady(40 * time.Second)
		<-time.After(time.Second)
		switch round {
		case 1: // the first events come before the daemon has seen the partitions
			if _, err := s.Producer.Admin.UpdatePartitions(context.Background(), 8, s.Topic(harness.Registrations)); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, 10*time.Second, "the new partitions", func() error {
				ends, err := s.Producer.Ends(harness.Registrations)
				return errors.Join(err, harness.Want("partitions", len(ends), 8))
			})
			newer := harness.NewProducer(s)
			for n := 1_000_006; n < 1_000_400; n += 8 { // for partition 6, where n modulo 8 is 6
				for i := range 2 {
					record, id := newer.Event(harness.Registrations, 8, n+i)
					if err := newer.Client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
						t.Fatal(err)
					}
					added = append(added, harness.Published{ID: id, Topic: record.Topic, Partition: record.Partition, Offset: record.Offset})
				}
			}
		case 2:
			s.Producer.CreateTopic("later", 2)
			for _, id := range s.Producer.Publish("later", 2, 2_000_001, 2_000_100) {
				added = append(added, harness.Published{ID: id})
			}
		}
		if round%2 == 0 {
			third.Terminate()
		} else {
			third.Kill()
			kills++
		}
		if err := s.Settled(harness.Registrations, rules, append(added, events.Acknowledged()...)); err != nil {
			t.Error(err)
		}
	}
	took := s.Recovers(harness.Registrations, events, harness.Lease+harness.Recovery, steady...)
	all := append(events.Stop(), added...)
	s.AllIsWell(harness.Registrations, all)
	s.Producer.WaitCommitted(20*time.Second, "later")
	total, repeats := s.Repeats(all)
	// A kill repeats what one replica of three has delivered since the last commit, one second
	// before.
	if most := kills * len(harness.Hooks) * 150; repeats > most {
		t.Errorf("%d of %d deliveries were repeated, want %d at most", repeats, total, most)
	}
	generations, err := steady[0].Metric("webhook_dispatcher_bus_generations_total")
	harness.Figure(t,
		"%d events × %d rules; %d joins, %d leaves, %d kills, %v generations %v: positions, deliveries caught up after %s; "+
			"%d repeats, %.1f %%; goroutines %v idle, %d %d at the end",
		len(all), len(harness.Hooks), rounds, rounds-kills, kills, generations, err, took, repeats, 100*float64(repeats)/float64(total), idle,
		steady[0].WaitIdle(idle[0]), steady[1].WaitIdle(idle[1]))
	for _, d := range steady {
		d.Terminate()
	}
}

// TestStoppedReplicaOfTwo stops one of two replicas for longer than its leases. Its requests in
// flight get other answers than the other replica gets for the same rows later. When it resumes, it
// must not change the other's results: no row that has ended, no committed offset.
func TestStoppedReplicaOfTwo(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	rules := s.ThreeRules()
	hold := make(chan struct{})
	// The stopped replica's first tries are refused, but it does not find out.
	s.On("second", func(n int, r *harness.Received) harness.Reply {
		if harness.EveryFourthFails(n, r).Status != 200 {
			return harness.Reply{Status: 500, After: hold}
		}
		return harness.Reply{Status: 200}
	})
	s.Producer.CreateTopic(harness.Registrations, 4)
	s.WatchOffsets(harness.Registrations)
	settings := []string{"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s", "WEBHOOK_DISPATCHER_TIMEOUT=20s"}
	stopped, other := s.Serve(settings...), s.Launch(settings...)
	for _, d := range []*harness.Daemon{stopped, other} {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 2, 40*time.Second)
	}
	events := s.Producer.StartTraffic(harness.Registrations, 4, 60, 1)
	harness.Eventually(t, 20*time.Second, "leased rows", func() error {
		return harness.AtLeast(s.Rows("state = 1"), 40)
	})
	stopped.Signal(syscall.SIGSTOP)
	begun := time.Now()
	s.On("second", harness.Answers(200))
	close(hold) // both replicas get 500
	other.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 4, 40*time.Second)
	took := s.Recovers(harness.Registrations, events, harness.Lease+harness.Recovery, other)
	<-time.After(time.Until(begun.Add(harness.Lease + 15*time.Second)))

	ended := endedRows(s)
	stopped.Signal(syscall.SIGCONT)
	for _, d := range []*harness.Daemon{stopped, other} {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 2, harness.Recovery)
	}
	back := harness.Since(begun)
	discarded := 0.0
	harness.Eventually(t, 20*time.Second, "late results are discarded", func() error {
		n, err := stopped.Metric("webhook_dispatcher_results_discarded_total")
		discarded = n
		return errors.Join(err, harness.AtLeast(int(n), 10))
	})
	if err := s.Settled(harness.Registrations, rules, events.Acknowledged()); err != nil {
		t.Error(err)
	}
	again := s.Recovers(harness.Registrations, events, harness.Recovery, stopped, other)
	all := events.Stop()
	s.AllIsWell(harness.Registrations, all)
	now := endedRows(s)
	for id, row := range ended {
		if now[id] != row {
			t.Errorf("row %d was %q before the stopped replica went on, and is %q", id, row, now[id])
		}
	}
	total, repeats := s.Repeats(all)
	harness.Figure(t,
		"%d events × %d rules; stopped for %s, caught up without it after %s, with it after %s; %v late results discarded, "+
			"%d ended rows untouched; %d repeats of %d", len(all), len(harness.Hooks), back, took, again, discarded, len(ended), repeats, total)
	stopped.Terminate()
	other.Terminate()
}

// endedRows returns the contents of the rows that have ended.
func endedRows(s *harness.Site) map[int64]string {
	s.T.Helper()
	rows, err := s.DB.Query(`SELECT id, CONCAT_WS(' ', state, attempts, claims, last_status, reason, updated_at)
  FROM webhook_dispatcher_delivery WHERE state >= 2`)
	if err != nil {
		s.T.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	found := map[int64]string{}
	for rows.Next() {
		var id int64
		var row string
		if err := rows.Scan(&id, &row); err != nil {
			s.T.Fatal(err)
		}
		found[id] = row
	}
	if err := rows.Err(); err != nil {
		s.T.Fatal(err)
	}
	return found
}

// TestCompactedTopic reads a topic whose log has holes: between records, at the committed offset,
// and at its end, where a transaction has left its marker.
func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	compactOften(s.Producer)
	s.Producer.CreateTopic(harness.Registrations, 1, "cleanup.policy", "compact", "segment.ms", "200", "min.cleanable.dirty.ratio", "0.001",
		"min.compaction.lag.ms", "0", "delete.retention.ms", "100")
	s.WatchOffsets(harness.Registrations)
	number := 0
	// burst sends one batch. Compaction keeps the last record of each key; every fourth has a key
	// of its own.
	burst := func(n int) (ids []string) {
		var records []*kgo.Record
		for range n {
			number++
			record, id := s.Producer.Event(harness.Registrations, 1, number)
			record.Key = []byte(strconv.Itoa(number % 3))
			if number%4 == 0 {
				record.Key = []byte(id)
			}
			records, ids = append(records, record), append(ids, id)
		}
		s.Producer.Send(records...)
		<-time.After(250 * time.Millisecond) // the next batch begins a new segment
		return ids
	}
	d := s.Serve()
	s.Delivers("hook", burst(7), 20*time.Second)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	d.Terminate()
	before := len(s.Taken("hook"))
	for range 12 {
		burst(6)
	}
	burst(1) // the last segment is never compacted
	s.Transactions(&number)
	published := number

	at, err := s.Producer.Committed(harness.Registrations)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	harness.Eventually(t, time.Minute, "compaction", func() error {
		left = s.Producer.ReadAll(harness.Registrations, at[0])
		return harness.AtLeast(40, len(left)) // 18 of the 72 have a key of their own
	})
	d = s.Serve()
	harness.Eventually(t, harness.Recovery, "what compaction has left", func() error {
		taken := s.Taken("hook")
		// Compaction may continue while the daemon reads.
		for _, id := range s.Producer.ReadAll(harness.Registrations, 0) {
			if taken[id] == 0 {
				return fmt.Errorf("event %s is missing", id)
			}
		}
		return nil
	})
	took := s.Producer.WaitCommitted(harness.Recovery, harness.Registrations)
	d.WaitMetric("webhook_dispatcher_consumer_lag_records", 0, 5*time.Second)
	d.WaitMetric("webhook_dispatcher_records_lost_total", 0, 5*time.Second)
	if n := s.Count("hook"); n > before+len(left) {
		t.Errorf("%d requests, want %d at most", n, before+len(left))
	}
	// It continues after the holes.
	ids := burst(2)
	harness.Eventually(t, 10*time.Second, "new events", func() error {
		taken := s.Taken("hook")
		return errors.Join(harness.Want("first", taken[ids[0]], 1), harness.Want("second", taken[ids[1]], 1))
	})
	harness.Figure(t, "%d of %d records left by compaction; all committed %s after they were delivered; stopped in %s",
		len(left), published-7, took, d.Terminate())
}

// compactOften makes the broker look for logs to compact twice a second instead of every 15 s.
func compactOften(p *harness.Producer) {
	p.T.Helper()
	often := "500"
	done, err := p.Admin.AlterBrokerConfigs(context.Background(), []kadm.AlterConfig{{Name: "log.cleaner.backoff.ms", Value: &often}})
	for _, one := range done {
		err = errors.Join(err, one.Err)
	}
	if err != nil {
		p.T.Fatal(err)
	}
}

// TestLogStartPassesTheDaemon deletes unread records of a partition that is held up. The daemon
// delivers what it has already read, counts the deleted rest as lost, and continues with what is
// left.
func TestLogStartPassesTheDaemon(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	s.Producer.CreateTopic(harness.Registrations, 1)
	s.WatchOffsets(harness.Registrations)
	db := harness.NewProxy(t, s.MariaDB.Address())
	s.On("hook", harness.Answers(500))
	d := s.Serve(s.Through(db), "WEBHOOK_DISPATCHER_MAX_IN_FLIGHT_PER_PARTITION=10", "WEBHOOK_DISPATCHER_FETCH_BUDGET=1MiB",
		"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s")
	db.Refuse()
	const all, left = 400, 20
	for n := 1; n <= all; n++ {
		record, _ := s.Producer.Event(harness.Registrations, 1, n)
		record.Value = s.Producer.Value(n, strings.Repeat("x", 8<<10)) // much more than the budget
		s.Producer.Send(record)
	}
	harness.Eventually(t, 20*time.Second, "requests", func() error {
		return harness.Want("number", s.Count("hook"), 10)
	})
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: s.Topic(harness.Registrations), Partition: 0, At: all - left})
	if deleted, err := s.Producer.Admin.DeleteRecords(context.Background(), offsets); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	s.On("hook", harness.Answers(200))
	db.Restore(t)
	took := s.Producer.WaitCommitted(harness.Recovery, harness.Registrations)
	harness.Eventually(t, harness.Recovery, "rows", s.AllDelivered) // the rule's circuit breaker has opened
	lost, err := d.Metric("webhook_dispatcher_records_lost_total")
	if err != nil {
		t.Fatal(err)
	}
	delivered := len(s.Taken("hook"))
	if lost == 0 || delivered+int(lost) != all {
		t.Errorf("%d events delivered and %v counted as lost, of %d", delivered, lost, all)
	}
	harness.Figure(t, "%d events delivered, %v counted as lost; at the log's end after %s; stopped in %s", delivered,
		lost, took, d.Terminate())
}
