package kafka

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/checkpoint"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// logBatch is a batch of a log: it covers base..base+span, and holds records for some of these
// offsets.
type logBatch struct {
	base    int64
	span    int32 // the last offset's distance
	records []int64
	control bool
}

const (
	produced = 1_700_000_000_000 // milliseconds
	appended = produced + 7200_000
)

// fakeLog answers fetches from batches, as a broker does: from the batch that covers the offset or
// the first after it.
type fakeLog struct {
	batches []logBatch
	end     int64
	atMost  int // batches in one answer
	version int16
	// appendTime says that the topic has message.timestamp.type=LogAppendTime.
	appendTime bool
	fetches    int
}

func (l *fakeLog) RoundTrip(_ context.Context, _ net.Addr, req kafka.Request) (kafka.Response, error) {
	l.fetches++
	ours := req.(*fetchRequest)
	at := ours.Topics[0].Partitions[0].FetchOffset
	code := uint16(0)
	if at > l.end {
		code = uint16(kafka.OffsetOutOfRange)
	}
	var raw []byte
	n := 0
	for _, b := range l.batches {
		if b.base+int64(b.span) >= at && n < l.atMost {
			raw = append(raw, b.encode(l.appendTime)...)
			n++
		}
	}
	if !ours.Required(map[protocol.ApiKey]int16{protocol.Fetch: l.version}) {
		return nil, errors.New("the old format is asked for")
	}
	return ours.RawExchange(struct {
		*bufio.Reader
		io.Writer
	}{bufio.NewReader(iotest.OneByteReader(bytes.NewReader(l.answer(ours.Topics[0].Topic, code, raw)))), io.Discard})
}

// answer is a response in the version that was asked for
// (https://kafka.apache.org/protocol#The_Messages_Fetch).
func (l *fakeLog) answer(topic string, code uint16, records []byte) []byte {
	be := binary.BigEndian
	body := be.AppendUint32(nil, correlation)
	body = be.AppendUint32(body, 0) // throttle
	if l.version >= 7 {
		body = append(body, 0, 0, 0, 0, 0, 0) // error, session
	}
	body = be.AppendUint32(body, 1)
	body = append(be.AppendUint16(body, uint16(len(topic))), topic...)
	body = be.AppendUint32(body, 1)
	body = be.AppendUint32(body, 0) // partition
	body = be.AppendUint16(body, code)
	body = be.AppendUint64(body, uint64(l.end))
	body = be.AppendUint64(body, uint64(l.end)) // last stable
	if l.version >= 5 {
		body = be.AppendUint64(body, 0) // log start
	}
	body = be.AppendUint32(body, 2) // aborted transactions
	body = append(body, make([]byte, 2*16)...)
	if l.version >= 11 {
		body = be.AppendUint32(body, 0) // preferred replica
	}
	body = be.AppendUint32(body, uint32(len(records)))
	body = append(body, records...)
	return append(be.AppendUint32(nil, uint32(len(body))), body...)
}

// encode writes the batch in the format of version 2
// (https://kafka.apache.org/documentation/#recordbatch).
func (b logBatch) encode(appendTime bool) []byte {
	var records []byte
	for _, offset := range b.records {
		value := fmt.Sprint(offset)
		body := []byte{0}                                   // attributes
		body = binary.AppendVarint(body, 0)                 // timestamp delta
		body = binary.AppendVarint(body, offset-b.base)     // offset delta
		body = binary.AppendVarint(body, -1)                // no key
		body = binary.AppendVarint(body, int64(len(value))) //
		body = append(body, value...)                       //
		body = binary.AppendVarint(body, 0)                 // no header
		records = binary.AppendVarint(records, int64(len(body)))
		records = append(records, body...)
	}
	var attributes uint16
	if b.control {
		attributes = 1 << 5
	}
	if appendTime {
		attributes |= 1 << 3
	}
	checked := binary.BigEndian.AppendUint16(nil, attributes)
	checked = binary.BigEndian.AppendUint32(checked, uint32(b.span))
	checked = binary.BigEndian.AppendUint64(checked, produced)
	checked = binary.BigEndian.AppendUint64(checked, appended)
	checked = binary.BigEndian.AppendUint64(checked, ^uint64(0)) // producer
	checked = binary.BigEndian.AppendUint16(checked, ^uint16(0))
	checked = binary.BigEndian.AppendUint32(checked, ^uint32(0))
	checked = binary.BigEndian.AppendUint32(checked, uint32(len(b.records)))
	checked = append(checked, records...)
	out := binary.BigEndian.AppendUint64(nil, uint64(b.base))
	out = binary.BigEndian.AppendUint32(out, uint32(4+1+4+len(checked)))
	out = binary.BigEndian.AppendUint32(out, 0)
	out = append(out, 2)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(checked, crc32.MakeTable(crc32.Castagnoli)))
	return append(out, checked...)
}

// readAll fetches until the log's end and returns the offsets of the records.
func readAll(t *testing.T, l *fakeLog, from int64) []int64 {
	t.Helper()
	r := &reader{client: &kafka.Client{Addr: kafka.TCP("x:1"), Transport: l}, topic: "t", position: from}
	var got []int64
	for range 400 {
		if r.position >= l.end {
			return got
		}
		items, err := r.fetch(t.Context(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			if string(it.value) != fmt.Sprint(it.offset) {
				t.Fatalf("offset %d has the value %q", it.offset, it.value)
			}
			got = append(got, it.offset)
		}
	}
	t.Fatalf("stalled at %d of %d after %d fetches", r.position, l.end, l.fetches)
	return nil
}

func TestGapsInTheLog(t *testing.T) {
	t.Parallel()
	far := int64(100_000)
	for name, tt := range map[string]struct {
		log  fakeLog
		from int64
		most int // fetches
	}{
		"whole batches":     {fakeLog{batches: []logBatch{{0, 2, []int64{0, 1, 2}, false}, {3, 0, []int64{3}, false}}, end: 4}, 0, 2},
		"gap between":       {fakeLog{batches: []logBatch{{0, 0, []int64{0}, false}, {900, 1, []int64{900, 901}, false}}, end: 902}, 0, 2},
		"begins in a batch": {fakeLog{batches: []logBatch{{0, 9, []int64{2, 5, 7}, false}, {10, 0, []int64{10}, false}}, end: 11}, 5, 5},
		"control batches": {fakeLog{batches: []logBatch{
			{0, 0, []int64{0}, false},
			{1, 0, []int64{1}, true},
			{2, 0, []int64{2}, false},
			{3, 0, []int64{3}, true},
		}, end: 4}, 0, 4},
		"the last records of a batch are gone": {fakeLog{batches: []logBatch{
			{0, 4999, []int64{0, 3}, false},
			{5000, 0, []int64{5000}, false},
		}, end: 5001}, 0, 120},
		"an empty batch is left": {fakeLog{batches: []logBatch{
			{0, 7, nil, false},
			{8, 299, nil, false},
			{308, 1, []int64{309}, false},
		}, end: 310}, 0, 90},
		"an empty batch at the end": {fakeLog{batches: []logBatch{{0, 0, []int64{0}, false}, {40, 99, nil, false}}, end: 140}, 0, 60},
		"empty, then single records": {fakeLog{batches: []logBatch{
			{0, 999, []int64{10}, false},
			{1000, 0, []int64{1000}, false},
			{1001, 0, []int64{1001}, false},
			{1002, 500, []int64{1003}, false},
			{1503, 0, []int64{1503}, false},
		}, end: 1504}, 0, 200},
		"a very long gap": {fakeLog{batches: []logBatch{
			{0, int32(far), []int64{1}, false},
			{far + 1, 0, []int64{far + 1}, false},
		}, end: far + 2}, 0, 200},
	} {
		for _, atMost := range []int{1, 2, 100} {
			t.Run(fmt.Sprint(name, "/", atMost), func(t *testing.T) {
				t.Parallel()
				log := tt.log
				log.atMost, log.version = atMost, []int16{4, 5, 11}[atMost%3]
				var want []int64
				for _, b := range log.batches {
					for _, offset := range b.records {
						if offset >= tt.from && !b.control {
							want = append(want, offset)
						}
					}
				}
				got := readAll(t, &log, tt.from)
				if !slices.Equal(got, want) {
					t.Fatalf("read %v, want %v", got, want)
				}
				t.Logf("%d fetches", log.fetches)
				if log.fetches > tt.most+len(log.batches) {
					t.Errorf("%d fetches", log.fetches)
				}
			})
		}
	}
}

// The broker keeps the producer's time in each record of such a topic; the append's is only in the
// head of the batch.
func TestLogAppendTime(t *testing.T) {
	t.Parallel()
	for appendTime, want := range map[bool]int64{false: produced, true: appended} {
		log := &fakeLog{
			batches: []logBatch{{0, 1, []int64{0, 1}, false}, {2, 0, []int64{2}, false}}, end: 3, atMost: 2, version: 11, appendTime: appendTime,
		}
		r := &reader{client: &kafka.Client{Addr: kafka.TCP("x:1"), Transport: log}, topic: "t"}
		records, err := r.fetch(t.Context(), 1<<20)
		if err != nil || len(records) != 3 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		for _, rec := range records {
			if rec.time.UnixMilli() != want {
				t.Errorf("LogAppendTime %v: the record at %d has the time %s", appendTime, rec.offset, rec.time)
			}
		}
	}
}

// FuzzGaps builds a log from the bytes and reads it from every offset with every size of answer.
func FuzzGaps(f *testing.F) {
	f.Add([]byte{5, 0b10101, 0, 3, 0, 200, 1}, uint8(1), uint8(0))
	f.Add([]byte{255, 0, 1, 255, 255, 9, 8, 7}, uint8(2), uint8(3))
	f.Fuzz(func(t *testing.T, program []byte, atMost, from uint8) {
		if len(program) > 60 {
			return
		}
		log := &fakeLog{atMost: int(atMost%4) + 1, version: 11}
		var want []int64
		for i := 0; i+2 < len(program); i += 3 {
			span := program[i] % 40
			b := logBatch{base: log.end + int64(program[i+2]%5), span: int32(span), control: program[i+2]%11 == 10}
			for d := range int64(span) + 1 {
				if program[i+1]>>(d%8)&1 == 1 {
					b.records = append(b.records, b.base+d)
					if !b.control && b.base+d >= int64(from) {
						want = append(want, b.base+d)
					}
				}
			}
			log.end = b.base + int64(span) + 1
			log.batches = append(log.batches, b)
		}
		if int64(from) > log.end {
			return
		}
		r := &reader{client: &kafka.Client{Addr: kafka.TCP("x:1"), Transport: log}, topic: "t", position: int64(from)}
		var got []int64
		for r.position < log.end {
			if log.fetches > 3000 {
				t.Fatalf("stalled at %d of %d", r.position, log.end)
			}
			items, err := r.fetch(t.Context(), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				got = append(got, it.offset)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("read %v, want %v", got, want)
		}
	})
}

func TestBaseOfAMessageSetIsUnknown(t *testing.T) {
	t.Parallel()
	if got := baseOf(&protocol.MessageSet{BaseOffset: 7}); got != -1 {
		t.Errorf("base %d", got)
	}
}

func TestCompressedRecords(t *testing.T) {
	t.Parallel()
	codecs := []kafka.Compression{kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd}
	b := newBench(t, topics("dev-a"))
	text := strings.Repeat("some text that compresses; ", 100)
	for _, codec := range codecs {
		w := &kafka.Writer{
			Addr: kafka.TCP(b.broker.Addrs()...), Topic: "dev-a", RequiredAcks: kafka.RequireAll, Compression: codec,
			BatchTimeout: time.Millisecond, Transport: &kafka.Transport{},
		}
		messages := make([]kafka.Message, 50)
		for i := range messages {
			messages[i] = kafka.Message{Value: []byte(fmt.Sprint(codec, i, text)), Headers: []kafka.Header{{Key: "h", Value: []byte("v")}}}
		}
		if err := w.WriteMessages(t.Context(), messages...); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		w.Transport.(*kafka.Transport).CloseIdleConnections()
	}
	h := newHandler()
	b.consume(h, nil)
	h.waitFor(t, 50*len(codecs))
	for i, v := range h.values() {
		if want := fmt.Sprint(codecs[i/50], i%50, text); v != want {
			t.Fatalf("record %d differs", i)
		}
	}
	b.wantCommitted("dev-a", 0, int64(50*len(codecs)))
}

func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	b := newBench(t, fakes.BrokerOptions{})
	policy, tiny := "compact", "1000"
	cluster := b.broker.Cluster()
	if err := cluster.CreateTopic("dev-a", 1, map[string]string{"cleanup.policy": policy, "segment.bytes": tiny}); err != nil {
		t.Fatal(err)
	}
	var messages []fakes.Message
	for i := range 300 {
		messages = append(messages, fakes.Message{Topic: "dev-a", Key: []byte(fmt.Sprint("k", i%7)), Value: []byte(fmt.Sprint("v", i))})
	}
	for _, m := range messages {
		if err := b.broker.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	cluster.Compact()
	h := newHandler()
	b.consume(h, nil)
	b.wantCommitted("dev-a", 0, 300)
	if n := len(h.values()); n >= 300 {
		t.Errorf("nothing was compacted away: %d records", n)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	b := newBudget(4<<20, 2)
	x, y := &share{budget: b}, &share{budget: b}
	n := x.take(true)
	if n != fetchMax {
		t.Fatalf("took %d", n)
	}
	x.spent(n, 50<<20) // a huge batch
	if got := x.take(true); got != 0 {
		t.Fatalf("an overdrawn partition took %d", got)
	}
	if got := y.take(true); got != 1<<20 { // its own part
		t.Fatalf("the other one took %d", got)
	}
	if got := y.take(true); got != 0 {
		t.Fatalf("the other one took %d beyond its own part", got)
	}
	x.give(50 << 20)
	if got := x.take(false); got != fetchMax {
		t.Fatalf("took %d after everything was released", got)
	}
	if got := y.take(true); got == 0 {
		t.Fatal("what was lent has not come back")
	}
	many := newBudget(1<<20, 1000)
	if got := (&share{budget: many}).take(false); got != fetchMin {
		t.Fatalf("one of a thousand took %d", got)
	}
}

func TestBudgetBalancesOut(t *testing.T) {
	t.Parallel()
	b := newBudget(1<<20, 4)
	var all sync.WaitGroup
	shares := make([]*share, 4)
	for i := range shares {
		shares[i] = &share{budget: b}
		all.Go(func() {
			for range 1000 {
				if n := shares[i].take(true); n > 0 {
					shares[i].spent(n, n/3)
					all.Go(func() { shares[i].give(n / 3) })
				}
			}
		})
	}
	all.Wait()
	for _, s := range shares {
		s.spent(0, 0)
		if s.held.Load() != 0 || s.borrowed != 0 {
			t.Errorf("held %d, borrowed %d", s.held.Load(), s.borrowed)
		}
	}
	if b.common != 1<<19 {
		t.Errorf("common %d", b.common)
	}
}

func TestShrinkCountsWhatIsKept(t *testing.T) {
	t.Parallel()
	s := &share{budget: newBudget(4<<20, 1)}
	rec := &loan{
		Record: bus.Record{Key: []byte("k"), Value: []byte("v"), Headers: []bus.Header{{Key: "h"}}},
		memory: 1000, partition: &partition{generation: &generation{}, share: s}, tracker: checkpoint.New(0, checkpoint.None),
	}
	rec.Lend(rec)
	s.spent(0, 1000)
	rec.Shrink(5000)
	if held := s.held.Load(); held != 5000+shrunkOverhead {
		t.Errorf("%d bytes are held", held)
	}
	if rec.Key != nil || rec.Value != nil || rec.Headers != nil {
		t.Error("what was dropped is still there")
	}
	rec.Done()
	if held := s.held.Load(); held != 0 {
		t.Errorf("%d bytes are held after Done", held)
	}
	bus.NewRecord("dev-a", 0, 1).Shrink(1) // one that the bus did not read
}

func TestOverdrawnByWhatRecordsBecame(t *testing.T) {
	t.Parallel()
	b := newBudget(4<<20, 2)
	s, other := &share{budget: b}, &share{budget: b}
	s.spent(s.take(true), 50<<20)
	if s.overdrawn() {
		t.Error("a batch larger than the budget must pass")
	}
	s.give(-1 << 20) // its records became larger
	if !s.overdrawn() {
		t.Error("not overdrawn by deliveries beyond the budget")
	}
	s.give(51 << 20)
	if s.overdrawn() {
		t.Error("overdrawn with everything released")
	}
	s.spent(s.take(false), 0) // gives back what was lent
	other.spent(other.take(true), 1<<20)
	other.give(-900 << 10)
	if other.overdrawn() {
		t.Error("overdrawn while the budget has bytes to lend")
	}
}

// An event for thousands of rules takes far more memory than its record. The partition must not
// hand over a whole fetch of those.
func TestHandsOverNoMoreThanTheBudget(t *testing.T) {
	t.Parallel()
	b := newBench(t, topics("dev-a"))
	b.publish("dev-a", 0, numbers("v", 200)...)
	h := newHandler()
	release := make(chan *bus.Record, 1000)
	h.take = func(_ context.Context, rec *bus.Record) {
		rec.Shrink(1 << 20)
		release <- rec
	}
	b.consume(h, func(o *Options) { o.Budget = 8 << 20 })
	h.wait(t, "some records", func() bool { return len(release) >= 8 })
	h.wait(t, "pressed", func() bool { return h.pressed["dev-a/0"] > 2 })
	if n := len(release); n > 12 {
		t.Errorf("%d records of 1 MiB each were handed over on a budget of 8 MiB", n)
	}
	for range 200 {
		(<-release).Done()
	}
	b.wantCommitted("dev-a", 0, 200)
}

func TestFetchesLessOfWhatGrows(t *testing.T) {
	t.Parallel()
	p := &partition{growth: firstGrowth}
	p.grow(1000, 0)
	if p.growth != firstGrowth {
		t.Errorf("an empty answer made it %v", p.growth)
	}
	p.grow(1000, 50_000)
	if p.growth != 50 {
		t.Errorf("50 times what was asked for made it %v", p.growth)
	}
	for range 100 {
		p.grow(1000, 500)
	}
	if p.growth != 1 {
		t.Errorf("answers smaller than asked for made it %v", p.growth)
	}
}
