//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// traffic is a stream of registrations at a steady rate.
type traffic struct {
	p    *producer
	quit chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex // guards what follows
	sent   []published
	failed int
	at     map[string]time.Time // when each was published
}

// traffic starts to publish registrations of learners from first on, spread over the partitions.
func (p *producer) traffic(base string, partitions, rate, first int) *traffic {
	p.t.Helper()
	f := &traffic{p: p, quit: make(chan struct{}), at: map[string]time.Time{}}
	f.done.Go(func() {
		begun := time.Now()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			for due := int(time.Since(begun).Seconds() * float64(rate)); n < due; n++ {
				f.send(base, partitions, first+n)
			}
			select {
			case <-tick.C:
			case <-f.quit:
				return
			}
		}
	})
	p.t.Cleanup(func() { f.stopSending() })
	return f
}

func (f *traffic) send(base string, partitions, n int) {
	record, id := f.p.event(base, partitions, n)
	f.mu.Lock()
	f.at[id] = time.Now()
	f.mu.Unlock()
	f.p.client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if err != nil {
			f.failed++ // it may be in the log all the same, and nobody may count on it
			return
		}
		f.sent = append(f.sent, published{Number: n, ID: id, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset})
	})
}

func (f *traffic) stopSending() {
	select {
	case <-f.quit:
	default:
		close(f.quit)
	}
	f.done.Wait()
}

// acknowledged returns what the broker has acknowledged so far.
func (f *traffic) acknowledged() []published {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clip(f.sent)
}

// stop ends the traffic and returns all of it.
func (f *traffic) stop() []published {
	f.p.t.Helper()
	f.stopSending()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.p.client.Flush(ctx); err != nil {
		f.p.t.Fatalf("publish: %v", err)
	}
	all := f.acknowledged()
	if len(all) == 0 {
		f.p.t.Fatal("nothing was published")
	}
	if f.failed > 0 {
		f.p.t.Logf("%d events could not be published", f.failed)
	}
	return all
}

// threeRules adds a rule for each of the hooks, of which one fails the first try of every fourth event, and returns their ids.
func (s *site) threeRules() map[string]string {
	s.t.Helper()
	s.lean = true
	s.on("failing", everyFourthFails)
	rules := map[string]string{}
	for _, hook := range hooks {
		rules[hook] = s.rule(hook)
	}
	return rules
}

func everyFourthFails(n int, r *received) reply {
	number, _ := strconv.Atoi(strings.TrimLeft(r.Event[strings.LastIndexByte(r.Event, '-')+1:], "0"))
	if n == 1 && number/7%4 == 0 { // not one partition's alone
		return reply{status: 500}
	}
	return reply{status: 200}
}

// settled returns an error when the group's position is ahead of what is safe: each record below it must have been taken by each
// hook or stand in a row. It may be asked at any time: what is safe stays so.
func (s *site) settled(base string, rules map[string]string, events []published) error {
	committed, err := s.producer.committed(base) // first: the others only grow
	if err != nil {
		return nil // the broker is away; the next look will tell
	}
	rows, err := s.db.Query("SELECT rule_id, event_id FROM webhook_dispatcher_delivery")
	if err != nil {
		return nil
	}
	defer func() { _ = rows.Close() }()
	kept := map[string]bool{}
	for rows.Next() {
		var rule, event string
		if err := rows.Scan(&rule, &event); err != nil {
			return err
		}
		kept[rule+" "+event] = true
	}
	if rows.Err() != nil {
		return nil
	}
	topic, ahead, example := s.topic(base), 0, ""
	for hook, rule := range rules {
		taken := s.taken(hook)
		for _, e := range events {
			if e.Topic == topic && e.Offset < committed[e.Partition] && taken[e.ID] == 0 && !kept[rule+" "+e.ID] {
				ahead++
				example = fmt.Sprintf("offset %d of partition %d, where %d is committed, at %s", e.Offset, e.Partition, committed[e.Partition], hook)
			}
		}
	}
	if ahead > 0 {
		return fmt.Errorf("positions are ahead of %d deliveries that are neither taken nor rows, such as %s", ahead, example)
	}
	return nil
}

// recovers checks that the end of a fault, which is now, is the end of its effects: within 30 s the group's positions reach the ends
// that the logs have now and the daemons are ready, and within limit, which is longer where a killed daemon has left leases,
// everything published so far has been taken by every hook. It returns how long both took.
func (s *site) recovers(base string, events *traffic, limit time.Duration, daemons ...*daemon) [2]time.Duration {
	s.t.Helper()
	fault := time.Now()
	before := events.acknowledged()
	ends, err := s.producer.ends(base)
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, recovery, "positions after the fault", func() error {
		committed, err := s.producer.committed(base)
		if err != nil {
			return err
		}
		for partition, end := range ends {
			if committed[partition] < end {
				return fmt.Errorf("committed %v, want at least %v", committed, ends)
			}
		}
		return nil
	})
	for _, d := range daemons {
		d.waitReady(time.Until(fault.Add(recovery)))
	}
	positions := since(fault)
	eventually(s.t, time.Until(fault.Add(limit)), "what was published before the end of the fault", func() error { return s.missing(before) })
	return [2]time.Duration{positions, since(fault)}
}

// allIsWell checks the end of a fault test: everything has been delivered, everything is committed, no row is left over.
func (s *site) allIsWell(base string, events []published) {
	s.t.Helper()
	eventually(s.t, 20*time.Second, "every event at every rule", func() error { return s.missing(events) })
	eventually(s.t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted(base) })
	eventually(s.t, lease+recovery, "rows", s.allDelivered) // one may have been delivered by a request whose result had no row yet
	if n := s.mustNumber("SELECT COUNT(*) - COUNT(DISTINCT rule_id, event_id) FROM webhook_dispatcher_delivery"); n > 0 {
		s.t.Errorf("%d deliveries have more than one row", n)
	}
}

// watchOffsets looks at the group's positions until the end of the test, whatever happens to the group, and fails the test when one
// goes back.
func (s *site) watchOffsets(bases ...string) {
	s.t.Helper()
	watcher := newProducer(s)
	quit := make(chan struct{})
	var watching sync.WaitGroup
	looks, fault := 0, ""
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		highest := map[string]int64{}
		for {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
			for _, base := range bases {
				at, err := watcher.committed(base)
				if err != nil {
					continue
				}
				looks++
				for partition, offset := range at {
					key := fmt.Sprintf("%s/%d", base, partition)
					if offset < highest[key] && fault == "" {
						fault = fmt.Sprintf("the position of %s went back from %d to %d at %s", key, highest[key], offset, time.Now().Format(time.TimeOnly))
					}
					highest[key] = max(highest[key], offset)
				}
			}
		}
	})
	s.t.Cleanup(func() {
		close(quit)
		watching.Wait()
		if fault != "" {
			s.t.Error(fault)
		}
		if looks < 10 {
			s.t.Errorf("the positions were looked at %d times only", looks)
		}
	})
}

// goroutines returns how many goroutines a daemon has.
func (d *daemon) goroutines() int {
	d.t.Helper()
	n, err := d.metric("go_goroutines")
	if err != nil {
		d.t.Fatal(err)
	}
	return int(n)
}

// calmsDown waits until a daemon has no more goroutines than a number that it had when it was idle, give or take those that the
// connections of a pool have.
func (d *daemon) calmsDown(idle int) int {
	d.t.Helper()
	const pool = 8
	last := 0
	eventually(d.t, 75*time.Second, "goroutines", func() error {
		n, err := d.metric("go_goroutines")
		if last = int(n); err == nil && last > idle+pool {
			err = fmt.Errorf("%d, idle it had %d", last, idle)
		}
		return err
	})
	return last
}
