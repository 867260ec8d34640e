package kafka

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// settler releases records after a while and in any order, as a dispatcher does. Only what it
// released counts as delivered.
type settler struct {
	mu        sync.Mutex
	delivered map[string]int
	workers   sync.WaitGroup
}

func (s *settler) settle(rec *bus.Record) {
	s.mu.Lock()
	s.delivered[string(rec.Value)]++
	s.mu.Unlock()
	rec.Done()
}

func (s *settler) handler() *handler {
	h := newHandler()
	var mu sync.Mutex
	open := map[*bus.Record]bool{}
	finish := func(rec *bus.Record) {
		mu.Lock()
		mine := open[rec]
		delete(open, rec)
		mu.Unlock()
		if mine {
			s.settle(rec)
		}
	}
	h.take = func(_ context.Context, rec *bus.Record) {
		mu.Lock()
		open[rec] = true
		mu.Unlock()
		s.workers.Add(1)
		time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, func() {
			defer s.workers.Done()
			finish(rec)
		})
	}
	h.drain = func(context.Context) error {
		mu.Lock()
		rest := make([]*bus.Record, 0, len(open))
		for rec := range open {
			rest = append(rest, rec)
		}
		mu.Unlock()
		for i, rec := range rest {
			if i%2 == 0 { // the other half is dropped: MySQL took too long
				finish(rec)
			} else {
				mu.Lock()
				delete(open, rec)
				mu.Unlock()
			}
		}
		return context.DeadlineExceeded
	}
	return h
}

// Members come and go while records are in flight; half of what is in flight at each end is
// dropped. Every record is delivered all the same, and no commit is applied that puts a partition
// back.
func TestRebalancesLoseNothingAndNoCommitGoesBack(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 400
	b := newBench(t, fakes.BrokerOptions{Topics: map[string]int32{"dev-a": partitions}})
	cluster := b.broker.Cluster()
	type commit struct {
		generation int32
		offset     int64
	}
	var mu sync.Mutex
	commits := map[int32][]commit{}
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.OffsetCommitRequest)
		mu.Lock()
		defer mu.Unlock()
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				commits[p.Partition] = append(commits[p.Partition], commit{r.Generation, p.Offset})
			}
		}
		return nil, nil, false
	})
	s := &settler{delivered: map[string]int{}}
	t.Cleanup(s.workers.Wait)
	quick := func(o *Options) { o.MaxInFlight = 32 }
	stay := b.consume(s.handler(), quick)
	total := 0
	for round := range 5 {
		for p := range int32(partitions) {
			b.publish("dev-a", p, numbers(fmt.Sprint(p, "/", round, "/"), each/5)...)
			total += each / 5
		}
		other := b.consume(s.handler(), quick)
		if _, err := cluster.WaitGroupStable(t.Context(), group, 2); err != nil {
			t.Fatal(err)
		}
		other.stop()
	}
	b.eventually("everything is delivered", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.delivered) == total
	})
	for p := range int32(partitions) {
		b.wantCommitted("dev-a", p, each)
	}
	stay.stop()
	mu.Lock()
	defer mu.Unlock()
	repeats := 0
	for _, n := range s.delivered {
		repeats += n - 1
	}
	t.Logf("%d records, %d repeats", total, repeats)
	for p, list := range commits {
		for i := 1; i < len(list); i++ {
			if list[i].offset < list[i-1].offset {
				t.Errorf("partition %d: commit %+v after %+v", p, list[i], list[i-1])
			}
		}
	}
}

func TestTwoMembersFirstPositions(t *testing.T) {
	t.Parallel()
	const partitions = 6
	b := newBench(t, fakes.BrokerOptions{Topics: map[string]int32{"dev-a": partitions}})
	for p := range int32(partitions) {
		b.publish("dev-a", p, "old")
	}
	h := newHandler()
	b.consume(h, latest)
	b.consume(h, latest)
	for p := range int32(partitions) {
		b.wantCommitted("dev-a", p, 1)
		b.publish("dev-a", p, "new")
	}
	b.eventually("all new ones", func() bool {
		got := map[string]bool{}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range h.records {
			if string(r.Value) != "new" {
				t.Fatalf("read %q", r.Value)
			}
			got[fmt.Sprint(r.Partition)] = true
		}
		return len(got) == partitions
	})
}

func TestAssign(t *testing.T) {
	t.Parallel()
	got := assign(
		map[string][]string{"m2": {"x", "y", "z"}, "m1": {"x", "y"}, "m3": {"x", "y"}},
		map[string][]int{"y": {0}, "x": {0, 1, 2}, "z": {0, 1}},
	)
	count := map[string]int{}
	owners := map[string]string{}
	for m, topics := range got {
		for topic, ids := range topics {
			for _, id := range ids {
				key := fmt.Sprint(topic, id)
				if owners[key] != "" {
					t.Errorf("%s has two owners", key)
				}
				owners[key] = m
				count[m]++
			}
		}
	}
	if len(owners) != 6 || owners["z0"] != "m2" || owners["z1"] != "m2" {
		t.Errorf("owners %v", owners)
	}
	// Single-partition topics are spread.
	got = assign(map[string][]string{"m1": {"p", "q"}, "m2": {"p", "q"}}, map[string][]int{"p": {0}, "q": {0}})
	if len(got["m1"]) != 1 || len(got["m2"]) != 1 {
		t.Errorf("assigned %v", got)
	}
	leader := counts{"p": 1, "q": 1}
	found := &discovery{partitions: map[string][]int{"p": {0}, "q": {0, 1}}}
	if !leader.outdated(found) {
		t.Error("a new partition was not noticed")
	}
	found.partitions["q"] = []int{0}
	if leader.outdated(found) {
		t.Error("outdated though nothing changed")
	}
	found.partitions["q"] = []int{0, 1}
	var follower counts
	if follower.outdated(found) {
		t.Error("a follower acts on a change")
	}
}
