//go:build e2e

package harness

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Producer publishes registrations without Python: faster, and with any fault that a test wants. It
// also administers topics.
type Producer struct {
	T        *testing.T
	s        *Site
	Client   *kgo.Client
	Admin    *kadm.Client
	Schema   *avro.Schema
	SchemaID uint32 // of the schema in the registry
}

// NewProducer returns a producer for a site; options override its own.
func NewProducer(s *Site, options ...kgo.Opt) *Producer {
	s.T.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		s.T.Fatal(err)
	}
	text, _ := catalogue.Avro(Registration)
	parsed, err := avro.Parse(text)
	if err != nil {
		s.T.Fatal(err)
	}
	id := s.RegisterSchema(s.Topic(Registrations)+"-"+Registration+".CloudEvent", text)
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.Kafka.Address()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(16 << 20),
		kgo.RecordDeliveryTimeout(time.Minute), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 250 * time.Millisecond }),
	}, options...)...)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(client.Close)
	return &Producer{T: s.T, s: s, Client: client, Admin: kadm.NewClient(client), Schema: parsed, SchemaID: id}
}

// RegisterSchema registers an Avro schema under a subject and returns its id.
func (s *Site) RegisterSchema(subject, text string) uint32 {
	s.T.Helper()
	// A registry that has just started on a busy machine may take longer than the client's 5 s.
	patient := &http.Client{Timeout: time.Minute}
	defer patient.CloseIdleConnections()
	registry, err := sr.NewClient(sr.URLs(s.Registry), sr.HTTPClient(patient))
	if err != nil {
		s.T.Fatal(err)
	}
	id, err := registry.RegisterSchema(context.Background(), subject, sr.Schema{Schema: text}, -1, -1)
	if err != nil {
		s.T.Fatal(err)
	}
	return uint32(id)
}

// Topic returns a topic's name with the site's prefix.
func (s *Site) Topic(base string) string { return s.Prefix + "-" + base }

// CreateTopic creates a topic; config alternates keys and values.
func (p *Producer) CreateTopic(base string, partitions int32, config ...string) {
	p.T.Helper()
	settings := map[string]*string{}
	for i := 0; i < len(config); i += 2 {
		settings[config[i]] = &config[i+1]
	}
	if _, err := p.Admin.CreateTopic(context.Background(), partitions, 1, settings, p.s.Topic(base)); err != nil {
		p.T.Fatalf("create topic %s: %v", base, err)
	}
	// The broker learns of a topic a little later than the controller.
	Eventually(p.T, 10*time.Second, "the topic's leaders", func() error {
		ends, err := p.Admin.ListEndOffsets(context.Background(), p.s.Topic(base))
		if err == nil {
			err = ends.Error()
		}
		if err == nil && len(ends[p.s.Topic(base)]) != int(partitions) {
			err = fmt.Errorf("%d partitions", len(ends[p.s.Topic(base)]))
		}
		return err
	})
}

// Event returns the record of learner n's registration, for partition n modulo partitions, and its
// event id.
func (p *Producer) Event(base string, partitions, n int) (*kgo.Record, string) {
	p.T.Helper()
	id := fmt.Sprintf("00000000-0000-1000-8000-%012d", n)
	return &kgo.Record{
		Topic: p.s.Topic(base), Partition: int32(n % partitions), Value: p.Value(n, fmt.Sprintf("learner%d", n)), Key: []byte{0, 0, 0, 0, 1, 0},
		Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "content-type", Value: []byte("application/avro")},
			{Key: "ce_datacontenttype", Value: []byte("application/avro")},
			{Key: "ce_type", Value: []byte(Registration)},
			{Key: "ce_id", Value: []byte(id)},
			{Key: "ce_source", Value: []byte("openedx/lms/web")},
			{Key: "ce_time", Value: []byte("2026-03-01T09:30:15.123456+00:00")},
			{Key: "ce_minorversion", Value: []byte("0")},
			{Key: "sourcehost", Value: []byte("lms")},
			{Key: "sourcelib", Value: []byte("11.2.0")},
		},
	}, id
}

// Value returns the value of learner n's registration in the registry's wire format.
func (p *Producer) Value(n int, name string) []byte {
	p.T.Helper()
	value, err := p.Schema.AppendEncode(binary.BigEndian.AppendUint32([]byte{0}, p.SchemaID), map[string]any{"user": map[string]any{
		"id": int64(n), "is_active": true, "pii": map[string]any{"username": name, "email": name + "@example.edu", "name": "Zoë"},
	}})
	if err != nil {
		p.T.Fatal(err)
	}
	return value
}

// Publish sends the registrations of learners first to last, spread over the partitions, and
// returns their event ids when the broker has acknowledged them.
func (p *Producer) Publish(base string, partitions, first, last int) []string {
	p.T.Helper()
	var records []*kgo.Record
	var ids []string
	for n := first; n <= last; n++ {
		record, id := p.Event(base, partitions, n)
		records, ids = append(records, record), append(ids, id)
	}
	p.Send(records...)
	return ids
}

// Send publishes records and returns when the broker has acknowledged them.
func (p *Producer) Send(records ...*kgo.Record) {
	p.T.Helper()
	if err := p.Client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		p.T.Fatalf("publish: %v", err)
	}
}

// Transactions publishes one record in a transaction that is committed and one in a transaction
// that is aborted; each leaves a control record. It increments number for each record. The daemon
// delivers both: its client does not tell them apart, and no publisher of events uses transactions.
func (s *Site) Transactions(number *int) (ids []string) {
	s.T.Helper()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(s.Kafka.Address()), kgo.TransactionalID(s.Prefix), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		s.T.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			s.T.Fatal(err)
		}
		*number++
		record, id := s.Producer.Event(Registrations, 1, *number)
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			s.T.Fatal(err)
		}
		if err := client.EndTransaction(ctx, end); err != nil {
			s.T.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// ReadAll returns the event ids in partition 0 of a topic from an offset to its end.
func (p *Producer) ReadAll(base string, from int64) (ids []string) {
	p.T.Helper()
	ends, err := p.Ends(base)
	if err != nil {
		p.T.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(p.s.Kafka.Address()), kgo.KeepControlRecords(), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{p.s.Topic(base): {0: kgo.NewOffset().At(from)}}))
	if err != nil {
		p.T.Fatal(err)
	}
	defer client.Close()
	for next := from; next < ends[0]; {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		fetched := client.PollFetches(ctx)
		cancel()
		if err := fetched.Err(); errors.Is(err, context.DeadlineExceeded) {
			break // compaction has left a hole at the end
		} else if err != nil {
			p.T.Fatal(err)
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

// Learner returns the learner's number from an event id.
func Learner(event string) int {
	n, _ := strconv.Atoi(event[strings.LastIndex(event, "-")+1:])
	return n
}
