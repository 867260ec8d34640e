//go:build e2e

package harness

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// loadTypes are event types of about 1 KiB on the wire with every field filled.
var loadTypes = []string{
	"learning.course.enrollment.created", "learning.course.enrollment.changed", "learning.course.unenrollment.completed",
	"learning.certificate.created", "learning.certificate.changed", "learning.certificate.revoked",
	"learning.program.certificate.awarded", "learning.program.certificate.revoked", "learning.exam.attempt.submitted",
	"learning.exam.attempt.reset",
}

// Load is a stream of captured events on one topic. Event n has the type n modulo the number of
// types, and an id that ends in n.
type Load struct {
	p          *Producer
	Partitions int
	Constants  []string // of the types, as rules name them
	records    []kgo.Record

	mu     sync.Mutex // guards what follows
	events []SentEvent
	err    error
}

// SentEvent says where and when an event was published.
type SentEvent struct {
	Partition int32
	Offset    int64 // -1 until the broker has acknowledged it
	At        time.Time
}

// NewLoad creates the topic Registrations and a Load of 1 to 10 event types for it.
func (s *Site) NewLoad(types, partitions int) *Load {
	s.T.Helper()
	// No compression, as in the platform's own producer: thousands of copies of one event would
	// compress to nearly nothing.
	plain := NewProducer(s, kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	l := &Load{p: plain, Partitions: partitions}
	s.Producer.CreateTopic(Registrations, int32(partitions))
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		s.T.Fatal(err)
	}
	for _, name := range loadTypes[:types] {
		text, err := os.ReadFile(filepath.Join(s.w.root, "internal/decode/testdata/wire", name+".v1--full.json"))
		if err != nil {
			s.T.Fatal(err)
		}
		var wire struct {
			Type    string `json:"event_type"`
			Key     []byte `json:"key_b64"`
			Value   []byte `json:"value_b64"`
			Schema  string `json:"value_schema"`
			Headers []struct {
				Key   string `json:"key"`
				Value []byte `json:"value_b64"`
			} `json:"headers"`
		}
		if err := json.Unmarshal(text, &wire); err != nil {
			s.T.Fatalf("%s: %v", name, err)
		}
		id := s.RegisterSchema(s.Topic(Registrations)+"-"+wire.Type+".CloudEvent", wire.Schema)
		binary.BigEndian.PutUint32(wire.Value[1:], id)
		record := kgo.Record{Topic: s.Topic(Registrations), Key: wire.Key, Value: wire.Value}
		for _, h := range wire.Headers {
			if h.Key != "ce_id" {
				record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
			}
		}
		signal, ok := catalogue.ByType(wire.Type)
		if !ok {
			s.T.Fatalf("the catalogue does not know %s", wire.Type)
		}
		l.records, l.Constants = append(l.records, record), append(l.Constants, signal.Constant)
	}
	return l
}

// idPrefix comes before the event's number in its id.
const idPrefix = "00000000-0000-1000-8000-"

func eventName(n int) string { return fmt.Sprintf("%s%012d", idPrefix, n) }

// Send publishes the next count events, rate per second or as fast as possible if rate is 0, and
// returns when the broker has acknowledged them. It may run in a goroutine of its own: Sent reports
// its errors.
func (l *Load) Send(count, rate int) {
	l.mu.Lock()
	first := len(l.events)
	l.mu.Unlock()
	begun := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; i < count; {
		due := count
		if rate > 0 {
			due = min(count, int(time.Since(begun).Seconds()*float64(rate))+1)
		}
		for ; i < due; i++ {
			l.produce(first + i)
		}
		if i < count {
			<-ticker.C
		}
	}
	err := l.p.Client.Flush(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *Load) produce(n int) {
	record := l.records[n%len(l.records)]
	record.Partition = int32(n / len(l.records) % l.Partitions)
	record.Headers = append(slices.Clip(record.Headers), kgo.RecordHeader{Key: "ce_id", Value: []byte(eventName(n))})
	l.mu.Lock()
	l.events = append(l.events, SentEvent{Partition: record.Partition, Offset: -1, At: time.Now()})
	l.mu.Unlock()
	l.p.Client.Produce(context.Background(), &record, func(r *kgo.Record, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.events[n].Offset = r.Offset; err != nil {
			l.err = err
		}
	})
}

// Sent returns what has been published so far, and fails the test if anything could not be.
func (l *Load) Sent() []SentEvent {
	l.p.T.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		l.p.T.Fatalf("publish: %v", l.err)
	}
	return slices.Clone(l.events)
}

// Latencies returns, for the wanted events, the times from publishing to the first request at an
// endpoint, and how many events it has not got.
func (l *Load) Latencies(e *Endpoint, wanted func(n int) bool) (times []time.Duration, missing int) {
	l.p.T.Helper()
	first := e.Firsts()
	for n, event := range l.Sent() {
		if !wanted(n) {
			continue
		}
		at, ok := first[n]
		if !ok {
			missing++
			continue
		}
		times = append(times, at.Sub(event.At))
	}
	return times, missing
}
