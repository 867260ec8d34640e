//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// soak tells whether the tests of load run in their long form; see `make soak`.
var soak = os.Getenv("WEBHOOK_DISPATCHER_SOAK") == "1"

// sized returns the size of a test: short in CI, long in a soak.
func sized[T any](short, long T) T {
	if soak {
		return long
	}
	return short
}

// loadTypes are event types of about 1 KiB on the wire, of which every combination of fields is filled.
var loadTypes = []string{
	"learning.course.enrollment.created", "learning.course.enrollment.changed", "learning.course.unenrollment.completed",
	"learning.certificate.created", "learning.certificate.changed", "learning.certificate.revoked",
	"learning.program.certificate.awarded", "learning.program.certificate.revoked", "learning.exam.attempt.submitted",
	"learning.exam.attempt.reset",
}

// load is a stream of captured events on one topic. Event n has type n modulo the types, and an id that ends in n.
type load struct {
	p          *producer
	partitions int
	constants  []string // of the types, as rules name them
	records    []kgo.Record

	mu     sync.Mutex // guards what follows
	events []sentEvent
	err    error
}

// sentEvent is where an event went and when.
type sentEvent struct {
	partition int32
	offset    int64 // -1 until the broker has acknowledged it
	at        time.Time
}

// newLoad makes the topic of registrations for events of the first types of loadTypes.
func (s *site) newLoad(types, partitions int) *load {
	s.t.Helper()
	// Batches as the platform's own producer makes them: thousands of copies of one event would compress to nearly nothing.
	plain := newProducer(s, kgo.ProducerBatchMaxBytes(1<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	l := &load{p: plain, partitions: partitions}
	s.producer.create(registrations, int32(partitions))
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		s.t.Fatal(err)
	}
	registry, err := sr.NewClient(sr.URLs(s.registry))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range loadTypes[:types] {
		text, err := os.ReadFile(filepath.Join(s.w.root, "internal/decode/testdata/wire", name+".v1--full.json"))
		if err != nil {
			s.t.Fatal(err)
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
			s.t.Fatalf("%s: %v", name, err)
		}
		subject := s.topic(registrations) + "-" + wire.Type + ".CloudEvent"
		id, err := registry.RegisterSchema(context.Background(), subject, sr.Schema{Schema: wire.Schema}, -1, -1)
		if err != nil {
			s.t.Fatal(err)
		}
		binary.BigEndian.PutUint32(wire.Value[1:], uint32(id))
		record := kgo.Record{Topic: s.topic(registrations), Key: wire.Key, Value: wire.Value}
		for _, h := range wire.Headers {
			if h.Key != "ce_id" {
				record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
			}
		}
		signal, ok := catalogue.ByType(wire.Type)
		if !ok {
			s.t.Fatalf("the catalogue does not know %s", wire.Type)
		}
		l.records, l.constants = append(l.records, record), append(l.constants, signal.Constant)
	}
	return l
}

// idPrefix stands before the number of an event in its id.
const idPrefix = "00000000-0000-1000-8000-"

func eventName(n int) string { return fmt.Sprintf("%s%012d", idPrefix, n) }

// send publishes the next events, count in all, at a rate a second, as fast as possible where that is 0. It returns once the broker
// has acknowledged all of them. It may run in a goroutine of its own: check tells what went wrong.
func (l *load) send(count, rate int) {
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
	err := l.p.client.Flush(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *load) produce(n int) {
	record := l.records[n%len(l.records)]
	record.Partition = int32(n / len(l.records) % l.partitions)
	record.Headers = append(slices.Clip(record.Headers), kgo.RecordHeader{Key: "ce_id", Value: []byte(eventName(n))})
	l.mu.Lock()
	l.events = append(l.events, sentEvent{partition: record.Partition, offset: -1, at: time.Now()})
	l.mu.Unlock()
	l.p.client.Produce(context.Background(), &record, func(r *kgo.Record, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.events[n].offset = r.Offset; err != nil {
			l.err = err
		}
	})
}

// sent returns what has been published so far.
func (l *load) sent() []sentEvent {
	l.p.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		l.p.t.Fatalf("publish: %v", l.err)
	}
	return slices.Clone(l.events)
}

// hook makes an endpoint of the sink and a rule that sends events of a constant to it. It returns the rule's id.
func (s *site) hook(k *sink, name, constant string, b behaviour) (*endpoint, int64) {
	s.t.Helper()
	e := k.add(name, b)
	return e, s.addRule(constant, e.url)
}

// addRule adds a rule as Django does.
func (s *site) addRule(constant, url string) int64 {
	s.t.Helper()
	result, err := s.db.Exec(`INSERT INTO openedx_webhooks_webhook (created, modified, event, webhook_url, enabled, use_www_form_encoding)
  VALUES (UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), ?, ?, 1, 0)`, constant, url)
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := result.LastInsertId()
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// lagSample is how far the group is behind in each partition.
type lagSample struct {
	at  time.Time
	lag map[int32]int64
}

// worst returns the largest lag of a partition.
func (l lagSample) worst() (most int64) {
	for _, n := range l.lag {
		most = max(most, n)
	}
	return most
}

// lagNow asks Kafka for the lag: the ends of the logs minus the positions that are committed.
func (p *producer) lagNow(base string) (lagSample, error) {
	sample := lagSample{at: time.Now(), lag: map[int32]int64{}}
	at, err := p.committed(base)
	if err != nil {
		return sample, err
	}
	ends, err := p.ends(base)
	for partition, end := range ends {
		sample.lag[partition] = end - at[partition]
	}
	return sample, err
}

// watchLag samples the lag until stop is called, which returns the samples.
func (p *producer) watchLag(base string) (stop func() []lagSample) {
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	var samples []lagSample
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if sample, err := p.lagNow(base); err == nil {
				samples = append(samples, sample)
			}
		}
	})
	return func() []lagSample {
		cancel()
		watching.Wait()
		return samples
	}
}

// peak returns the largest memory in MiB that the daemon has had so far, as the kernel counts it.
func (d *daemon) peak() float64 {
	d.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(string(text))
	if found == nil {
		d.t.Fatalf("no VmHWM in %s", text)
	}
	kib, _ := strconv.ParseFloat(found[1], 64)
	return kib / 1024
}

// peakMemory is the promise about the daemon's memory under any load, in MiB.
const peakMemory = 128

// rowsWritten returns how many rows of deliveries have ever been inserted, those that were deleted since included: by the counter of
// the table, and by what the daemon has counted.
func (s *site) rowsWritten(d *daemon) (byTable, byDaemon int) {
	s.t.Helper()
	byTable = s.mustNumber(`SELECT COALESCE(MAX(AUTO_INCREMENT), 1) - 1 FROM information_schema.tables
  WHERE table_schema = ? AND table_name = 'webhook_dispatcher_delivery'`, s.database)
	parked, err := d.metric("webhook_dispatcher_rows_enqueued_total")
	if err != nil {
		s.t.Fatal(err)
	}
	return byTable, int(parked)
}

// enqueuedBy returns the rows that the daemon has made, by reason, for the table of figures.
func (d *daemon) enqueuedBy() string {
	d.t.Helper()
	_, body, err := d.get("/metrics")
	if err != nil {
		return err.Error()
	}
	var parts []string
	series := regexp.MustCompile(`(?m)^webhook_dispatcher_rows_enqueued_total\{reason="(\w*)"\} (\S+)$`)
	for _, m := range series.FindAllStringSubmatch(body, -1) {
		if m[2] != "0" {
			parts = append(parts, m[1]+" "+m[2])
		}
	}
	return strings.Join(parts, ", ")
}

// spread is the distribution of some times.
type spread struct {
	p50, p90, p99, max time.Duration
}

func spreadOf(times []time.Duration) spread {
	if len(times) == 0 {
		return spread{}
	}
	slices.Sort(times)
	at := func(share float64) time.Duration { return times[int(share*float64(len(times)-1))] }
	return spread{p50: at(0.5), p90: at(0.9), p99: at(0.99), max: times[len(times)-1]}
}

func (s spread) String() string {
	return fmt.Sprintf("p50 %s, p99 %s, max %s",
		s.p50.Round(time.Millisecond/10), s.p99.Round(time.Millisecond), s.max.Round(time.Millisecond))
}

// latencies returns the times from publishing to the first request at an endpoint for the events of these that it should get.
func (l *load) latencies(e *endpoint, wanted func(n int) bool) (times []time.Duration, missing int) {
	l.p.t.Helper()
	first := e.firsts()
	for n, event := range l.sent() {
		if !wanted(n) {
			continue
		}
		at, ok := first[n]
		if !ok {
			missing++
			continue
		}
		times = append(times, at.Sub(event.at))
	}
	return times, missing
}
