package kafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func latest(o *Options) { o.StartOffset = Latest }

func TestLatestIsCommittedBeforeAnythingIsRead(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakes.BrokerOptions{Topics: map[string]int32{"dev-a": 3}})
	b.publish("dev-a", 0, "old", "old")
	b.publish("dev-a", 2, "old")
	c := b.consume(newHandler(), latest)
	b.wantCommitted("dev-a", 0, 2)
	b.wantCommitted("dev-a", 1, 0)
	b.wantCommitted("dev-a", 2, 1)
	b.eventually("the row", func() bool { row, _ := b.memory.row("dev-a"); return row })
	c.stop()
	// What comes while nobody runs is not "old".
	b.publish("dev-a", 0, "new")
	b.publish("dev-a", 1, "new")
	h := newHandler()
	b.consume(h, latest)
	h.waitFor(t, 2)
	if got := h.values(); !slices.Equal(got, []string{"new", "new"}) {
		t.Fatalf("read %q", got)
	}
}

func TestConfiguredTopicThatWasAbsentStartsAtItsBeginning(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-b"))
	both := func(o *Options) { o.Topics, o.StartOffset = []string{"a", "b"}, Latest }
	h := newHandler()
	c := b.consume(h, both)
	b.wantCommitted("dev-b", 0, 0)
	b.eventually("remembered", func() bool { row, _ := b.memory.row("dev-a"); return row })
	b.eventually("ready: a topic that does not exist yet is no trouble", func() bool { return c.Ready() == nil })
	c.stop()
	// It comes into being while nothing runs: only the row knows that it was absent.
	if err := b.broker.CreateTopic("dev-a", 1); err != nil {
		t.Fatal(err)
	}
	b.publish("dev-a", 0, "first")
	h = newHandler()
	b.consume(h, both)
	h.waitFor(t, 1)
	if got := h.values(); !slices.Equal(got, []string{"first"}) {
		t.Fatalf("read %q", got)
	}
}

// Whoever waits until a new consumer is ready and then publishes gets the event, although the group
// starts at the latest.
func TestReadyMeansThatTheStartIsKnown(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "before")
	h := newHandler()
	c := b.consume(h, latest)
	b.eventually("ready", func() bool { return c.Ready() == nil })
	b.publish("dev-a", 0, "after")
	h.waitFor(t, 1)
	if got := h.values(); !slices.Equal(got, []string{"after"}) {
		t.Fatalf("read %q", got)
	}
}

func TestNoTopicExistsYet(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakes.BrokerOptions{AutoCreate: true}) // and polling does not create it
	h := newHandler()
	c := b.consume(h, latest)
	b.eventually("ready", func() bool { return c.Ready() == nil })
	if b.broker.Cluster().TopicInfo("dev-a") != nil {
		t.Fatal("looking for the topic created it")
	}
	if err := b.broker.CreateTopic("dev-a", 2); err != nil {
		t.Fatal(err)
	}
	b.publish("dev-a", 1, "first")
	h.waitFor(t, 1)
}

func TestAllTopicsOfThePrefix(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a", "prod-a", "development"))
	b.publish("dev-a", 0, "old")
	star := func(o *Options) { o.Topics, o.StartOffset = []string{AllTopics}, Latest }
	h := newHandler()
	b.consume(h, star)
	b.wantCommitted("dev-a", 0, 1)
	// Found later: from its beginning.
	if err := b.broker.CreateTopic("dev-late", 1); err != nil {
		t.Fatal(err)
	}
	b.publish("dev-late", 0, "l1", "l2")
	b.publish("dev-a", 0, "new")
	b.publish("prod-a", 0, "not ours")
	b.publish("development", 0, "not ours")
	h.waitFor(t, 3)
	b.wantCommitted("dev-late", 0, 2)
	b.wantCommitted("dev-a", 0, 2)
	got := h.values()
	slices.Sort(got)
	if !slices.Equal(got, []string{"l1", "l2", "new"}) {
		t.Fatalf("read %q", got)
	}
}

func TestAllTopicsFoundLaterWhileNothingRan(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	star := func(o *Options) { o.Topics, o.StartOffset = []string{AllTopics}, Latest }
	c := b.consume(newHandler(), star)
	b.wantCommitted("dev-a", 0, 0)
	c.stop()
	if err := b.broker.CreateTopic("dev-late", 1); err != nil {
		t.Fatal(err)
	}
	b.publish("dev-late", 0, "l1")
	h := newHandler()
	b.consume(h, star)
	h.waitFor(t, 1)
}

func TestPartitionAddedLaterStartsAtItsBeginning(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "old")
	h := newHandler()
	b.consume(h, latest)
	b.wantCommitted("dev-a", 0, 1)
	if err := b.broker.SetPartitions(t.Context(), "dev-a", 3); err != nil {
		t.Fatal(err)
	}
	b.publish("dev-a", 2, "p2")
	b.publish("dev-a", 1, "p1")
	h.waitFor(t, 2)
	b.wantCommitted("dev-a", 1, 1)
	b.wantCommitted("dev-a", 2, 1)
	if got := h.values(); slices.Contains(got, "old") {
		t.Fatalf("read %q", got)
	}
}

func TestPositionsThatKafkaDroppedAreNotTakenForANewGroup(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1", "2")
	b.memory.rows = map[string]bool{"dev-a": true} // had positions once
	h := newHandler()
	b.consume(h, latest)
	h.waitFor(t, 2)
}

// A first commit whose answer gets lost is repeated with the same numbers.
func TestFirstCommitIsRepeatedWithTheSameNumbers(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "old")
	cluster := b.broker.Cluster()
	var offsets []int64
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r := req.(*kmsg.OffsetCommitRequest)
		offsets = append(offsets, r.Topics[0].Partitions[0].Offset)
		if len(offsets) == 3 {
			return nil, nil, false
		}
		cluster.KeepControl()
		resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.CoordinatorLoadInProgress.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	h := newHandler()
	c := b.consume(h, latest)
	b.eventually("told", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "first positions")
	})
	b.publish("dev-a", 0, "after the group had decided")
	h.waitFor(t, 1)
	if !slices.Equal(offsets, []int64{1, 1, 1}) {
		t.Fatalf("committed %v", offsets)
	}
}

// An error in the answer about positions must not be read as "the group is new".
func TestErrorsOfOffsetFetchAreNotTakenForNoPosition(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1", "2", "3")
	if err := b.broker.Commit(t.Context(), group, "dev-a", 0, 1); err != nil {
		t.Fatal(err)
	}
	cluster := b.broker.Cluster()
	failures := 0
	cluster.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if failures++; failures > 3 {
			return nil, nil, false
		}
		cluster.KeepControl()
		r := req.(*kmsg.OffsetFetchRequest)
		resp := r.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, t := range r.Topics {
			rt := kmsg.NewOffsetFetchResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseTopicPartition()
				rp.Partition, rp.Offset, rp.ErrorCode = p, -1, kerr.CoordinatorLoadInProgress.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	h := newHandler()
	b.consume(h, latest)
	h.waitFor(t, 2)
	if got := h.values(); !slices.Equal(got, []string{"2", "3"}) {
		t.Fatalf("read %q", got)
	}
}

func TestMemo(t *testing.T) {
	t.Parallel()
	found := func(absent []string, present ...string) *discovery {
		d := &discovery{partitions: map[string][]int{}, absent: absent}
		for _, p := range present {
			d.partitions[p] = []int{0}
		}
		return d
	}
	ctx := context.Background()
	away := errors.New("away")

	t.Run("a crash before the first look was written", func(t *testing.T) {
		t.Parallel()
		m := &memory{err: away}
		if err := newTopicState(m, group).observe(ctx, found(nil, "x"), true); !errors.Is(err, away) {
			t.Fatal(err)
		}
		m.err = nil
		state := newTopicState(m, group)
		if err := state.observe(ctx, found(nil, "x", "y"), true); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"x", "y"} {
			if from, err := state.fromBeginning(ctx, topic); from || err != nil {
				t.Errorf("%s starts at the beginning (%v)", topic, err)
			}
		}
		// Another process, later.
		state = newTopicState(m, group)
		if err := state.observe(ctx, found(nil, "x", "z"), true); err != nil {
			t.Fatal(err)
		}
		for topic, want := range map[string]bool{"x": false, "y": true, "z": true} { // y went away before it had a position
			if from, _ := state.fromBeginning(ctx, topic); from != want {
				t.Errorf("%s from the beginning: %v", topic, from)
			}
		}
	})
	t.Run("absence is known though it cannot be written", func(t *testing.T) {
		t.Parallel()
		m := &memory{err: away}
		state := newTopicState(m, group)
		if err := state.observe(ctx, found([]string{"x"}), false); !errors.Is(err, away) {
			t.Fatal(err)
		}
		if from, err := state.fromBeginning(ctx, "x"); !from || err != nil {
			t.Fatalf("%v %v", from, err)
		}
		if _, err := state.fromBeginning(ctx, "y"); !errors.Is(err, away) {
			t.Fatalf("a failure was read as no row: %v", err)
		}
		m.err = nil
		if err := state.observe(ctx, found(nil, "x"), false); err != nil {
			t.Fatal(err)
		}
		if row, _ := m.row("x"); !row {
			t.Fatal("the row was not written later")
		}
	})
}

func TestIdlePositionsAreCommittedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1")
	h := newHandler()
	b.consume(h, func(o *Options) { o.RecommitInterval = 50 * time.Millisecond })
	h.waitFor(t, 1)
	b.wantCommitted("dev-a", 0, 1)
	again := make(chan int64, 100)
	cluster := b.broker.Cluster()
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case again <- req.(*kmsg.OffsetCommitRequest).Topics[0].Partitions[0].Offset:
		default:
		}
		return nil, nil, false
	})
	select {
	case offset := <-again:
		if offset != 1 {
			t.Fatalf("committed %d again", offset)
		}
	case <-time.After(deadline):
		t.Fatal("nothing was committed again")
	}
}
