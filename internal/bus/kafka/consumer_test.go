package kafka

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func topics(names ...string) fakes.BrokerOptions {
	o := fakes.BrokerOptions{Topics: map[string]int32{}}
	for _, n := range names {
		o.Topics[n] = 1
	}
	return o
}

func TestRecordsArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	at := time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)
	err := b.broker.Publish(t.Context(),
		fakes.Message{
			Topic: "dev-a", Key: []byte("k"), Value: []byte("v"), Time: at,
			Headers: []kgo.RecordHeader{{Key: "ce_type", Value: []byte("x")}, {Key: "ce_type", Value: []byte("y")}, {Key: "none"}},
		},
		fakes.Message{Topic: "dev-a", Key: nil, Value: nil},
		fakes.Message{Topic: "dev-a", Key: []byte{}, Value: []byte{}},
	)
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler()
	c := b.consume(h, nil)
	h.waitFor(t, 3)
	r := h.at(0)
	if r.Topic != "dev-a" || r.Partition != 0 || r.Position != 0 || string(r.Key) != "k" || string(r.Value) != "v" || !r.Time.Equal(at) {
		t.Errorf("first record: %+v", r)
	}
	want := []bus.Header{{Key: "ce_type", Value: []byte("x")}, {Key: "ce_type", Value: []byte("y")}, {Key: "none"}}
	if !reflect.DeepEqual(r.Headers, want) {
		t.Errorf("headers %q", r.Headers)
	}
	if r := h.at(1); r.Key != nil || r.Value != nil || r.Position != 1 {
		t.Errorf("a record without key and value: %+v", r)
	}
	if r := h.at(2); r.Key == nil || r.Value == nil || len(r.Value) != 0 {
		t.Errorf("a record with empty key and value: %+v", r)
	}
	b.wantCommitted("dev-a", 0, 3)
	b.eventually("ready", func() bool { return c.Ready() == nil })
}

// The records of one fetch have its end as their time, however long the handler takes with those
// before; a later fetch has a later one.
func TestFetchedIsTheTimeOfTheFetch(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1", "2", "3")
	h := newHandler()
	began := time.Now()
	var handled []time.Time // when Handle ended; one partition calls it
	h.take = func(_ context.Context, rec *bus.Record) {
		if rec.Position == 0 {
			b.publish("dev-a", 0, "4")
		}
		rec.Done()
		handled = append(handled, time.Now())
	}
	b.consume(h, nil)
	h.waitFor(t, 4)
	first, last := h.at(0).Fetched, h.at(3).Fetched
	if first.Before(began) || !h.at(1).Fetched.Equal(first) || !h.at(2).Fetched.Equal(first) {
		t.Errorf("fetched at %s, %s, %s; begun at %s", first, h.at(1).Fetched, h.at(2).Fetched, began)
	}
	if first.After(handled[0]) || last.Before(handled[2]) {
		t.Errorf("fetched at %s and %s, the first three handled at %v", first, last, handled[:3])
	}
}

func TestResumesWhereItStopped(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1", "2")
	h := newHandler()
	c := b.consume(h, nil)
	h.waitFor(t, 2)
	c.stop() // commits at the end of the generation
	if got := b.committed("dev-a", 0); got != 2 {
		t.Fatalf("committed %d at the end of the generation, want 2", got)
	}
	b.publish("dev-a", 0, "3")
	h2 := newHandler()
	b.consume(h2, nil)
	h2.waitFor(t, 1)
	if got := h2.values(); !slices.Equal(got, []string{"3"}) {
		t.Fatalf("second run read %q", got)
	}
}

// The design that this rules out: committing the highest offset that was released.
func TestReleasedOutOfOrderIsNotCommittedPastAnUnreleasedRecord(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, numbers("v", 10)...)
	h := newHandler()
	h.take = func(_ context.Context, rec *bus.Record) {
		if rec.Position != 4 {
			rec.Done()
		}
	}
	b.consume(h, nil)
	h.waitFor(t, 10)
	b.wantCommitted("dev-a", 0, 4)
	b.publish("dev-a", 0, "more")
	h.waitFor(t, 11)
	if got := b.committed("dev-a", 0); got != 4 {
		t.Fatalf("committed %d past the record 4", got)
	}
	h.at(4).Done()
	b.wantCommitted("dev-a", 0, 11)
}

func TestWhatDrainDoesNotSettleIsReadAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, "1", "2", "3")
	h := newHandler()
	h.take = func(_ context.Context, rec *bus.Record) {
		if rec.Position == 0 {
			rec.Done()
		}
	}
	var began time.Time
	h.drain = func(ctx context.Context) error {
		began = time.Now()
		<-ctx.Done() // the database is away
		return ctx.Err()
	}
	c := b.consume(h, nil)
	h.waitFor(t, 3)
	b.wantCommitted("dev-a", 0, 1)
	c.stop()
	if took := time.Since(began); took > endTime+time.Second {
		t.Errorf("the end took %s", took)
	}
	if got := b.committed("dev-a", 0); got != 1 {
		t.Fatalf("committed %d, want 1", got)
	}
	h.at(1).Done() // late: nobody's any more
	h.at(2).Done()
	h2 := newHandler()
	b.consume(h2, nil)
	h2.waitFor(t, 2)
	if got := h2.values(); !slices.Equal(got, []string{"2", "3"}) {
		t.Fatalf("read again: %q", got)
	}
}

func TestDrainSettlesAndTheEndCommits(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, numbers("v", 50)...)
	h := newHandler()
	blocked := make(chan struct{})
	h.take = func(ctx context.Context, rec *bus.Record) {
		if rec.Position == 49 { // this one waits for its place until the generation ends
			close(blocked)
			<-ctx.Done()
		}
	}
	h.drain = func(context.Context) error {
		for i := range 49 {
			h.at(i).Done()
		}
		return nil
	}
	c := b.consume(h, func(o *Options) { o.CommitInterval = time.Hour })
	<-blocked
	if got := b.committed("dev-a", 0); got != 0 {
		t.Fatalf("committed %d before anything was released; the first position is 0", got)
	}
	c.stop()
	if got := b.committed("dev-a", 0); got != 49 {
		t.Fatalf("committed %d, want 49", got)
	}
	if h.drains != 1 {
		t.Errorf("Drain was called %d times", h.drains)
	}
}

func TestFullWindowPressesAndStopsOnlyItsPartition(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakes.BrokerOptions{Topics: map[string]int32{"dev-a": 2}})
	b.publish("dev-a", 0, numbers("stuck", 100)...)
	h := newHandler()
	h.take = func(_ context.Context, rec *bus.Record) {
		if rec.Partition == 1 {
			rec.Done()
		}
	}
	b.consume(h, func(o *Options) { o.MaxInFlight = 16 })
	h.wait(t, "pressed", func() bool { return h.pressed["dev-a/0"] >= 3 })
	for i := range 3 {
		b.publish("dev-a", 1, numbers("free", 40)...)
		h.wait(t, "the other partition goes on", func() bool {
			n := 0
			for _, r := range h.records {
				if r.Partition == 1 {
					n++
				}
			}
			return n == 40*(i+1)
		})
	}
	b.wantCommitted("dev-a", 1, 120)
	stuck := 0
	h.mu.Lock()
	for _, r := range h.records {
		if r.Partition == 0 {
			stuck++
		}
	}
	if h.pressed["dev-a/1"] != 0 {
		t.Error("the partition that has room was pressed")
	}
	first := slices.IndexFunc(h.records, func(r *bus.Record) bool { return r.Partition == 0 })
	h.mu.Unlock()
	if stuck != 16 {
		t.Errorf("%d records in a window of 16", stuck)
	}
	h.at(first).Done() // room for one
	h.wait(t, "one more", func() bool {
		n := 0
		for _, r := range h.records {
			if r.Partition == 0 {
				n++
			}
		}
		return n == 17
	})
}

func TestRecordsLargerThanTheBudgetPass(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	huge := strings.Repeat("x", 5<<20)
	b.publish("dev-a", 0, "before")
	b.publish("dev-a", 0, huge)
	b.publish("dev-a", 0, "between")
	b.publish("dev-a", 0, huge)
	b.publish("dev-a", 0, "after")
	h := newHandler()
	release := make(chan *bus.Record, 100)
	h.take = func(_ context.Context, rec *bus.Record) { release <- rec }
	b.consume(h, func(o *Options) { o.Budget = 64 << 10 })
	for i, want := range []int{6, 5 << 20, 7, 5 << 20, 5} {
		select {
		case rec := <-release:
			if len(rec.Value) != want {
				t.Fatalf("record %d has %d bytes, want %d", i, len(rec.Value), want)
			}
			rec.Done()
		case <-time.After(deadline):
			t.Fatalf("stalled before record %d", i)
		}
	}
	b.wantCommitted("dev-a", 0, 5)
}

func TestTroubleWithBrokersIsTold(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	h := newHandler()
	c := b.consume(h, func(o *Options) { o.Brokers = []string{"127.0.0.1:1"} })
	b.eventually("not ready", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "127.0.0.1:1") && strings.Contains(err.Error(), "refused")
	})
}

func TestMemoryAwayHoldsUnknownPositionsOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a", "dev-b"))
	b.publish("dev-a", 0, "old", "a1")
	b.publish("dev-b", 0, "b1")
	if err := b.broker.Commit(t.Context(), group, "dev-a", 0, 1); err != nil {
		t.Fatal(err)
	}
	b.memory.fail(errors.New("database is away"))
	h := newHandler()
	c := b.consume(h, func(o *Options) { o.Topics = []string{"a", "b"} })
	h.waitFor(t, 1)
	b.eventually("not ready", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "database is away")
	})
	if got := h.values(); !slices.Equal(got, []string{"a1"}) {
		t.Fatalf("read %q", got)
	}
	b.memory.fail(nil)
	h.waitFor(t, 2)
	b.eventually("ready", func() bool { return c.Ready() == nil })
}

func TestManyReleasesAreCommittedBeforeTheTimer(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, numbers("v", commitAfter+10)...)
	b.consume(newHandler(), func(o *Options) { o.CommitInterval = time.Hour })
	b.eventually("committed", func() bool { return b.committed("dev-a", 0) >= commitAfter })
}
