//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestRebalancesUnderLoad has a third replica join the group and leave it every few seconds, in good order and by SIGKILL in turn,
// under a stream of events; meanwhile partitions are added, and a topic.
func TestRebalancesUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rules := s.threeRules()
	s.producer.create(registrations, 6)
	s.watchOffsets(registrations, "later")
	settings := []string{"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s", "WEBHOOK_DISPATCHER_TOPICS=" + registrations + ",later"}
	steady := []*daemon{s.serve(settings...), s.launch(settings...)}
	for _, d := range steady {
		d.metricIs("webhook_dispatcher_bus_partitions_assigned", 3, 40*time.Second)
	}
	idle := []int{steady[0].goroutines(), steady[1].goroutines()}
	events := s.producer.traffic(registrations, 6, 150, 1)
	var added []published
	rounds, kills := sized(6, 40), 0
	for round := range rounds {
		third := s.launch(settings...)
		third.waitReady(40 * time.Second)
		<-time.After(time.Second)
		switch round {
		case 1: // the first events come before anybody has seen the partitions
			if _, err := s.producer.admin.UpdatePartitions(context.Background(), 8, s.topic(registrations)); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, "the new partitions", func() error {
				ends, err := s.producer.ends(registrations)
				return errors.Join(err, want("partitions", len(ends), 8))
			})
			newer := newProducer(s)
			for n := 1_000_006; n < 1_000_400; n += 8 { // for partition 6, where n modulo 8 is 6
				for i := range 2 {
					record, id := newer.event(registrations, 8, n+i)
					if err := newer.client.ProduceSync(context.Background(), record).FirstErr(); err != nil {
						t.Fatal(err)
					}
					added = append(added, published{ID: id, Topic: record.Topic, Partition: record.Partition, Offset: record.Offset})
				}
			}
		case 2:
			s.producer.create("later", 2)
			for _, id := range s.producer.publish("later", 2, 2_000_001, 2_000_100) {
				added = append(added, published{ID: id})
			}
		}
		if round%2 == 0 {
			third.terminate()
		} else {
			third.kill()
			kills++
		}
		if err := s.settled(registrations, rules, append(added, events.acknowledged()...)); err != nil {
			t.Error(err)
		}
	}
	took := s.recovers(registrations, events, lease+recovery, steady...)
	all := append(events.stop(), added...)
	s.allIsWell(registrations, all)
	eventually(t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted("later") })
	total, repeats := s.repeats(all)
	// A kill repeats what was delivered since the last commit, a second before, by one replica of three.
	if most := kills * len(hooks) * 150; repeats > most {
		t.Errorf("%d of %d deliveries were repeated, want %d at most", repeats, total, most)
	}
	generations, err := steady[0].metric("webhook_dispatcher_bus_generations_total")
	figure(t, "%d events × %d rules; %d joins, %d leaves, %d kills, %v generations %v: positions, deliveries caught up after %s; "+
		"%d repeats, %.1f %%; goroutines %v idle, %d %d at the end",
		len(all), len(hooks), rounds, rounds-kills, kills, generations, err, took, repeats, 100*float64(repeats)/float64(total), idle,
		steady[0].calmsDown(idle[0]), steady[1].calmsDown(idle[1]))
	for _, d := range steady {
		d.terminate()
	}
}

// TestStoppedReplicaOfTwo stops one of two replicas beyond its leases, with requests under way whose answers say something else than
// what the other replica gets for the same rows later. When it goes on, it changes nothing of the other's: no row that has
// ended, no position.
func TestStoppedReplicaOfTwo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rules := s.threeRules()
	hold := make(chan struct{})
	s.on("second", func(n int, r *received) reply { // what the stopped replica tries first is refused, and it does not get to know
		if everyFourthFails(n, r).status != 200 {
			return reply{status: 500, after: hold}
		}
		return reply{status: 200}
	})
	s.producer.create(registrations, 4)
	s.watchOffsets(registrations)
	settings := []string{"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s", "WEBHOOK_DISPATCHER_TIMEOUT=20s"}
	stopped, other := s.serve(settings...), s.launch(settings...)
	for _, d := range []*daemon{stopped, other} {
		d.metricIs("webhook_dispatcher_bus_partitions_assigned", 2, 40*time.Second)
	}
	events := s.producer.traffic(registrations, 4, 60, 1)
	eventually(t, 20*time.Second, "leased rows", func() error { return atLeast(s.rows("state = 1"), 40) })
	stopped.signal(syscall.SIGSTOP)
	begun := time.Now()
	s.on("second", answers(200))
	close(hold) // the answers, to either replica, are 500
	other.metricIs("webhook_dispatcher_bus_partitions_assigned", 4, 40*time.Second)
	took := s.recovers(registrations, events, lease+recovery, other)
	<-time.After(time.Until(begun.Add(lease + 15*time.Second)))

	ended := s.ended()
	stopped.signal(syscall.SIGCONT)
	for _, d := range []*daemon{stopped, other} {
		d.metricIs("webhook_dispatcher_bus_partitions_assigned", 2, recovery)
	}
	back := since(begun)
	discarded := 0.0
	eventually(t, 20*time.Second, "late results are discarded", func() error {
		n, err := stopped.metric("webhook_dispatcher_results_discarded_total")
		discarded = n
		return errors.Join(err, atLeast(int(n), 10))
	})
	if err := s.settled(registrations, rules, events.acknowledged()); err != nil {
		t.Error(err)
	}
	again := s.recovers(registrations, events, recovery, stopped, other)
	all := events.stop()
	s.allIsWell(registrations, all)
	now := s.ended()
	for id, row := range ended {
		if now[id] != row {
			t.Errorf("row %d was %q before the stopped replica went on, and is %q", id, row, now[id])
		}
	}
	total, repeats := s.repeats(all)
	figure(t, "%d events × %d rules; stopped for %s, caught up without it after %s, with it after %s; %v late results discarded, "+
		"%d ended rows untouched; %d repeats of %d", len(all), len(hooks), back, took, again, discarded, len(ended), repeats, total)
	stopped.terminate()
	other.terminate()
}

// ended returns what stands in the rows that have ended.
func (s *site) ended() map[int64]string {
	s.t.Helper()
	rows, err := s.db.Query(`SELECT id, CONCAT_WS(' ', state, attempts, claims, last_status, reason, updated_at)
  FROM webhook_dispatcher_delivery WHERE state >= 2`)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	found := map[int64]string{}
	for rows.Next() {
		var id int64
		var row string
		if err := rows.Scan(&id, &row); err != nil {
			s.t.Fatal(err)
		}
		found[id] = row
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	return found
}

// TestCompactedTopic reads a topic whose log has holes: between records, at the group's position, and at its end, where a
// transaction has left its marker.
func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.producer.compactOften()
	s.producer.create(registrations, 1, "cleanup.policy", "compact", "segment.ms", "200", "min.cleanable.dirty.ratio", "0.001",
		"min.compaction.lag.ms", "0", "delete.retention.ms", "100")
	s.watchOffsets(registrations)
	number := 0
	// burst sends one batch. Of the records with the same key the last remains; every fourth has a key of its own.
	burst := func(n int) (ids []string) {
		var records []*kgo.Record
		for range n {
			number++
			record, id := s.producer.event(registrations, 1, number)
			record.Key = []byte(strconv.Itoa(number % 3))
			if number%4 == 0 {
				record.Key = []byte(id)
			}
			records, ids = append(records, record), append(ids, id)
		}
		s.producer.send(records...)
		<-time.After(250 * time.Millisecond) // the next batch begins a new segment
		return ids
	}
	d := s.serve()
	s.delivers("hook", burst(7), 20*time.Second)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	d.terminate()
	before := len(s.taken("hook"))
	for range 12 {
		burst(6)
	}
	burst(1) // what stands last in the log is never compacted
	s.transactions(&number)
	published := number

	at, err := s.producer.committed(registrations)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	eventually(t, time.Minute, "compaction", func() error {
		left = s.producer.readAll(registrations, at[0])
		return atLeast(40, len(left)) // 18 of the 72 have a key of their own
	})
	d = s.serve()
	eventually(t, recovery, "what compaction has left", func() error {
		taken := s.taken("hook")
		for _, id := range s.producer.readAll(registrations, 0) { // it may go on while the daemon reads
			if taken[id] == 0 {
				return fmt.Errorf("event %s is missing", id)
			}
		}
		return nil
	})
	took := eventually(t, recovery, "offsets", func() error { return s.producer.allCommitted(registrations) })
	d.metricIs("webhook_dispatcher_consumer_lag_records", 0, 5*time.Second)
	d.metricIs("webhook_dispatcher_records_lost_total", 0, 5*time.Second)
	if n := s.count("hook"); n > before+len(left) {
		t.Errorf("%d requests, want %d at most", n, before+len(left))
	}
	// And goes on behind the holes.
	ids := burst(2)
	eventually(t, 10*time.Second, "new events", func() error {
		taken := s.taken("hook")
		return errors.Join(want("first", taken[ids[0]], 1), want("second", taken[ids[1]], 1))
	})
	figure(t, "%d of %d records left by compaction; all committed %s after they were delivered; stopped in %s",
		len(left), published-7, took, d.terminate())
}

// compactOften makes the broker look for logs to compact twice a second; by itself it does so every 15 s.
func (p *producer) compactOften() {
	p.t.Helper()
	often := "500"
	done, err := p.admin.AlterBrokerConfigs(context.Background(), []kadm.AlterConfig{{Name: "log.cleaner.backoff.ms", Value: &often}})
	for _, one := range done {
		err = errors.Join(err, one.Err)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// readAll returns the ids of the events in the only partition of a topic from an offset to its end.
func (p *producer) readAll(base string, from int64) (ids []string) {
	p.t.Helper()
	ends, err := p.ends(base)
	if err != nil {
		p.t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.s.kafka.address()), kgo.KeepControlRecords(), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{p.s.topic(base): {0: kgo.NewOffset().At(from)}}))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	for next := from; next < ends[0]; {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		fetched := client.PollFetches(ctx)
		cancel()
		if fetched.Empty() {
			break // a hole at the end
		}
		fetched.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if i := slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "ce_id" }); i >= 0 {
				ids = append(ids, string(r.Headers[i].Value))
			}
		})
	}
	return ids
}

// TestLogStartPassesTheDaemon deletes records before they are read, from a partition that is held up: what it holds already is
// delivered, the rest is counted as lost, and it goes on with what is left.
func TestLogStartPassesTheDaemon(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.producer.create(registrations, 1)
	s.watchOffsets(registrations)
	db := newProxy(t, s.mariadb.address())
	s.on("hook", answers(500))
	d := s.serve(s.through(db), "WEBHOOK_DISPATCHER_MAX_IN_FLIGHT_PER_PARTITION=10", "WEBHOOK_DISPATCHER_FETCH_BUDGET=1MiB",
		"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s")
	db.refuse()
	const all, left = 400, 20
	for n := 1; n <= all; n++ {
		record, _ := s.producer.event(registrations, 1, n)
		record.Value = s.producer.value(n, strings.Repeat("x", 8<<10)) // much more than the budget
		s.producer.send(record)
	}
	eventually(t, 20*time.Second, "requests", func() error { return want("number", s.count("hook"), 10) })
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: s.topic(registrations), Partition: 0, At: all - left})
	if deleted, err := s.producer.admin.DeleteRecords(context.Background(), offsets); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	s.on("hook", answers(200))
	db.restore(t)
	took := eventually(t, recovery, "offsets", func() error { return s.producer.allCommitted(registrations) })
	eventually(t, recovery, "rows", s.allDelivered) // its lane's breaker has opened
	lost, err := d.metric("webhook_dispatcher_records_lost_total")
	if err != nil {
		t.Fatal(err)
	}
	delivered := len(s.taken("hook"))
	if lost == 0 || delivered+int(lost) != all {
		t.Errorf("%d events delivered and %v counted as lost, of %d", delivered, lost, all)
	}
	figure(t, "%d events delivered, %v counted as lost; at the log's end after %s; stopped in %s", delivered, lost, took, d.terminate())
}
