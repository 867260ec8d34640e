package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

var begun = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// history opens one on the bench's broker until the test ends.
func (b *bench) history(names ...string) *LogReader {
	b.Helper()
	h, err := NewLogReader(Source{Brokers: b.broker.Addrs(), TopicPrefix: "dev", Topics: names})
	if err != nil {
		b.Fatal(err)
	}
	h.resetDelay = 100 * time.Millisecond
	b.Cleanup(h.Close)
	return h
}

// publishAt writes one record at each of the minutes after begun.
func (b *bench) publishAt(topic string, partition int32, minutes ...int) {
	b.Helper()
	for _, m := range minutes {
		err := b.broker.Publish(b.Context(), fakes.Message{
			Topic: topic, Partition: partition, Value: fmt.Append(nil, m), Time: begun.Add(time.Duration(m) * time.Minute),
			Key: []byte("k"),
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func (b *bench) ranges(h *LogReader, since time.Time) []bus.Range {
	b.Helper()
	ranges, absent, err := h.Ranges(b.Context(), since)
	if err != nil || len(absent) > 0 {
		b.Fatalf("Ranges: %v, absent %v", err, absent)
	}
	return ranges
}

func readRange(t *testing.T, h *LogReader, r bus.Range) (values []string, lost int64) {
	t.Helper()
	lost, err := h.Read(t.Context(), r, func(rec *bus.Record) error {
		values = append(values, string(rec.Value))
		if rec.Topic != r.Topic || rec.Partition != r.Partition || string(rec.Key) != "k" {
			t.Errorf("record of %s/%d with the key %q", rec.Topic, rec.Partition, rec.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values, lost
}

func part(topic string, partition int, from, to, start bus.Position) bus.Range {
	return bus.Range{Topic: topic, Partition: partition, From: from, To: to, Start: start}
}

func TestRangesSince(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakes.BrokerOptions{Topics: map[string]int32{"dev-a": 3, "dev-b": 1, "other": 1}})
	b.publishAt("dev-a", 0, 0, 10, 20, 15, 30) // 15 came late
	b.publishAt("dev-a", 1, 0, 1)
	b.publishAt("dev-b", 0, 20, 21, 22, 23)
	if err := b.broker.DeleteRecords("dev-b", 0, 2); err != nil {
		t.Fatal(err)
	}
	everything := []bus.Range{
		part("dev-a", 0, 0, 5, 0), part("dev-a", 1, 0, 2, 0), part("dev-a", 2, 0, 0, 0), part("dev-b", 0, 2, 4, 2),
	}
	for _, tt := range []struct {
		since time.Time
		want  []bus.Range
	}{
		{begun.Add(15 * time.Minute), []bus.Range{
			part("dev-a", 0, 2, 5, 0), part("dev-a", 1, 2, 2, 0), part("dev-a", 2, 0, 0, 0), part("dev-b", 0, 2, 4, 2),
		}},
		{begun.Add(20*time.Minute + time.Nanosecond), []bus.Range{ // to the millisecond, cut: rather one record too many
			part("dev-a", 0, 2, 5, 0), part("dev-a", 1, 2, 2, 0), part("dev-a", 2, 0, 0, 0), part("dev-b", 0, 2, 4, 2),
		}},
		{begun.Add(time.Hour), []bus.Range{
			part("dev-a", 0, 5, 5, 0), part("dev-a", 1, 2, 2, 0), part("dev-a", 2, 0, 0, 0), part("dev-b", 0, 4, 4, 2),
		}},
		{time.Time{}, everything},
		{time.Unix(-1, 0), everything},
	} {
		for _, names := range [][]string{{"*"}, {"b", "a"}} {
			if got := b.ranges(b.history(names...), tt.since); !slices.Equal(got, tt.want) {
				t.Errorf("%v since %s:\n got %v\nwant %v", names, tt.since, got, tt.want)
			}
		}
	}
	h := b.history("missing", "a", "gone")
	ranges, absent, err := h.Ranges(t.Context(), begun)
	if err != nil || len(ranges) != 3 || !slices.Equal(absent, []string{"dev-gone", "dev-missing"}) {
		t.Errorf("%v, absent %v, %v", ranges, absent, err)
	}
}

// Nothing that is published after Ranges is read, and no group appears.
func TestReadEndsWhereTheRangeDoes(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publishAt("dev-a", 0, 0, 1, 2, 3)
	h := b.history("a")
	r := b.ranges(h, begun.Add(time.Minute))[0]
	b.publishAt("dev-a", 0, 4)
	values, lost := readRange(t, h, r)
	if !slices.Equal(values, []string{"1", "2", "3"}) || lost != 0 {
		t.Errorf("read %q, lost %d", values, lost)
	}
	if values, _ = readRange(t, h, bus.Range{Topic: "dev-a", From: 1, To: 3}); !slices.Equal(values, []string{"1", "2"}) {
		t.Errorf("read %q", values)
	}
	if at := b.committed("dev-a", 0); at != -1 {
		t.Errorf("committed %d", at)
	}
	stop := errors.New("enough")
	n := 0
	if _, err := h.Read(t.Context(), r, func(*bus.Record) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%v after %d records", err, n)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	if _, err := h.Read(ctx, r, func(*bus.Record) error { cancel(stop); return ctx.Err() }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
	if _, err := h.Read(ctx, r, func(*bus.Record) error { return nil }); !errors.Is(err, stop) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestReadCompacted(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakes.BrokerOptions{})
	if err := b.broker.Cluster().CreateTopic("dev-a", 1, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1000"}); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		m := fakes.Message{Topic: "dev-a", Key: fmt.Append(nil, i%7), Value: fmt.Append(nil, i)}
		if err := b.broker.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	b.broker.Cluster().Compact()
	h := b.history("a")
	r := b.ranges(h, time.Time{})[0]
	var got []int64
	lost, err := h.Read(t.Context(), r, func(rec *bus.Record) error { got = append(got, int64(rec.Position)); return nil })
	if err != nil || lost != 0 || len(got) == 0 || len(got) >= 300 || got[len(got)-1] != 299 || r.To != 300 {
		t.Errorf("read %d records to %v of %v, lost %d, %v", len(got), got[max(0, len(got)-1):], r, lost, err)
	}
	held := make(map[int64]bool)
	for _, offset := range got {
		held[offset] = true
	}
	for offset := range int64(301) {
		rec, err := h.Record(t.Context(), "dev-a", 0, bus.Position(offset))
		if err != nil || (rec != nil) != held[offset] || rec != nil && int64(rec.Position) != offset {
			t.Fatalf("record at %d: %+v, %v; the log has it: %v", offset, rec, err, held[offset])
		}
	}
}

// The retention takes records away while they are to be read: what is there is read, and how much
// is not is told.
func TestReadBehindRetention(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publishAt("dev-a", 0, 0, 1, 2, 3, 4)
	h := b.history("a")
	r := b.ranges(h, time.Time{})[0]
	if err := b.broker.DeleteRecords("dev-a", 0, 3); err != nil {
		t.Fatal(err)
	}
	values, lost := readRange(t, h, r)
	if !slices.Equal(values, []string{"3", "4"}) || lost != 3 {
		t.Errorf("read %q, lost %d", values, lost)
	}
	if values, lost = readRange(t, h, bus.Range{Topic: "dev-a", From: 0, To: 2}); len(values) > 0 || lost != 2 {
		t.Errorf("of a range that is gone: read %q, lost %d", values, lost)
	}
	for offset, there := range map[int64]bool{2: false, 3: true, 5: false} {
		if rec, err := h.Record(t.Context(), "dev-a", 0, bus.Position(offset)); err != nil || (rec != nil) != there {
			t.Errorf("record %d: %v, %v", offset, rec, err)
		}
	}
}

func TestReadOfATopicMadeAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publishAt("dev-a", 0, 0, 1)
	h := b.history("a")
	for name, r := range map[string]bus.Range{
		"begins behind the end": {Topic: "dev-a", From: 7, To: 9}, "ends behind the end": {Topic: "dev-a", From: 1, To: 9},
	} {
		began := time.Now()
		if _, err := h.Read(t.Context(), r, func(*bus.Record) error { return nil }); !errors.Is(err, ErrRecreated) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > readPatience/2 {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func TestRecordOfAnUnknownTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	h := b.history("a")
	for _, where := range []bus.Range{{Topic: "dev-x"}, {Topic: "dev-a", Partition: 9}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if rec, err := h.Record(ctx, where.Topic, where.Partition, 0); rec != nil || err != nil {
			t.Errorf("%v: %v, %v", where, rec, err)
		}
		cancel()
	}
}

// A broker that is away for a moment ends nothing.
func TestReadSurvivesABrokerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBench(t, fakes.BrokerOptions{Topics: map[string]int32{"dev-a": 1}, DataDir: dir})
	b.publishAt("dev-a", 0, 0, 1, 2)
	h := b.history("a")
	r := b.ranges(h, time.Time{})[0]
	port := portOf(t, b.broker.Addrs()[0])
	b.broker.Close()
	type result struct {
		n   int
		err error
	}
	done := make(chan result)
	go func() {
		n := 0
		_, err := h.Read(context.Background(), r, func(*bus.Record) error { n++; return nil })
		done <- result{n, err}
	}()
	<-time.After(300 * time.Millisecond)
	broker, err := fakes.StartBroker(fakes.BrokerOptions{DataDir: dir, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	b.broker = broker
	if got := <-done; got.err != nil || got.n != 3 {
		t.Errorf("read %d records, %v", got.n, got.err)
	}
}

func TestHistoryOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Source{
		"no broker":    {Topics: []string{"a"}},
		"no topic":     {Brokers: []string{"x:1"}},
		"no mechanism": {Brokers: []string{"x:1"}, Topics: []string{"a"}, SASL: &SASL{"MD5", "u", "p"}},
	} {
		if h, err := NewLogReader(o); err == nil {
			h.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

// A topic that must not be read is an error, not one that holds nothing.
func TestRangesOfARefusedTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a", "dev-secret"))
	cluster := b.broker.Cluster()
	cluster.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r := req.(*kmsg.MetadataRequest)
		if len(r.Topics) == 0 {
			return nil, nil, false
		}
		return refuseTopic(cluster.ListenAddrs()[0], r, "dev-secret"), nil, true
	})
	if _, _, err := b.history("a", "secret").Ranges(t.Context(), begun); err == nil || !strings.Contains(err.Error(), "dev-secret") {
		t.Errorf("got %v", err)
	}
}
