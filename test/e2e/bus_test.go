//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// producer publishes registrations without Python, faster and with any fault that a test wants; it also administers the topics.
type producer struct {
	t      *testing.T
	s      *site
	client *kgo.Client
	admin  *kadm.Client
	schema *avro.Schema
	id     uint32 // of the schema in the registry
}

// newProducer returns a producer for a site; options come on top of its own.
func newProducer(s *site, options ...kgo.Opt) *producer {
	s.t.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		s.t.Fatal(err)
	}
	text, _ := catalogue.Avro(registration)
	parsed, err := avro.Parse(text)
	if err != nil {
		s.t.Fatal(err)
	}
	registry, err := sr.NewClient(sr.URLs(s.registry))
	if err != nil {
		s.t.Fatal(err)
	}
	subject := s.topic(registrations) + "-" + registration + ".CloudEvent"
	id, err := registry.RegisterSchema(context.Background(), subject, sr.Schema{Schema: text}, -1, -1)
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.kafka.address()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(16 << 20),
		kgo.RecordDeliveryTimeout(time.Minute), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 250 * time.Millisecond }),
	}, options...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return &producer{t: s.t, s: s, client: client, admin: kadm.NewClient(client), schema: parsed, id: uint32(id)}
}

// topic returns the full name of a base topic.
func (s *site) topic(base string) string { return s.prefix + "-" + base }

// create makes a topic; config is key, value, key, value.
func (p *producer) create(base string, partitions int32, config ...string) {
	p.t.Helper()
	settings := map[string]*string{}
	for i := 0; i < len(config); i += 2 {
		settings[config[i]] = &config[i+1]
	}
	if _, err := p.admin.CreateTopic(context.Background(), partitions, 1, settings, p.s.topic(base)); err != nil {
		p.t.Fatalf("create topic %s: %v", base, err)
	}
	// The broker knows of a topic a little later than the controller.
	eventually(p.t, 10*time.Second, "the topic's leaders", func() error {
		ends, err := p.admin.ListEndOffsets(context.Background(), p.s.topic(base))
		if err == nil {
			err = ends.Error()
		}
		if err == nil && len(ends[p.s.topic(base)]) != int(partitions) {
			err = fmt.Errorf("%d partitions", len(ends[p.s.topic(base)]))
		}
		return err
	})
}

// event returns the record of the registration of learner n, for partition n modulo partitions, and its event id.
func (p *producer) event(base string, partitions, n int) (*kgo.Record, string) {
	p.t.Helper()
	id := fmt.Sprintf("00000000-0000-1000-8000-%012d", n)
	return &kgo.Record{
		Topic: p.s.topic(base), Partition: int32(n % partitions), Value: p.value(n, fmt.Sprintf("learner%d", n)), Key: []byte{0, 0, 0, 0, 1, 0},
		Headers: []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "content-type", Value: []byte("application/avro")},
			{Key: "ce_datacontenttype", Value: []byte("application/avro")},
			{Key: "ce_type", Value: []byte(registration)},
			{Key: "ce_id", Value: []byte(id)},
			{Key: "ce_source", Value: []byte("openedx/lms/web")},
			{Key: "ce_time", Value: []byte("2026-03-01T09:30:15.123456+00:00")},
			{Key: "ce_minorversion", Value: []byte("0")},
			{Key: "sourcehost", Value: []byte("lms")},
			{Key: "sourcelib", Value: []byte("11.2.0")},
		},
	}, id
}

// value returns the value of the registration of learner n, in the registry's wire format.
func (p *producer) value(n int, name string) []byte {
	p.t.Helper()
	value, err := p.schema.AppendEncode(binary.BigEndian.AppendUint32([]byte{0}, p.id), map[string]any{"user": map[string]any{
		"id": int64(n), "is_active": true, "pii": map[string]any{"username": name, "email": name + "@example.edu", "name": "Zoë"},
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	return value
}

// publish sends the registrations of learners first to last, spread over the partitions, and returns their event ids once the
// broker has acknowledged all.
func (p *producer) publish(base string, partitions, first, last int) []string {
	p.t.Helper()
	var records []*kgo.Record
	var ids []string
	for n := first; n <= last; n++ {
		record, id := p.event(base, partitions, n)
		records, ids = append(records, record), append(ids, id)
	}
	p.send(records...)
	return ids
}

func (p *producer) send(records ...*kgo.Record) {
	p.t.Helper()
	if err := p.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		p.t.Fatalf("publish: %v", err)
	}
}

// committed returns the group's positions in a topic by partition.
func (p *producer) committed(base string) (map[int32]int64, error) {
	all, err := p.admin.FetchOffsets(context.Background(), p.s.group)
	if err == nil {
		err = all.Error()
	}
	at := map[int32]int64{}
	for partition, o := range all[p.s.topic(base)] {
		at[partition] = o.At
	}
	return at, err
}

// ends returns where the logs of a topic end.
func (p *producer) ends(base string) (map[int32]int64, error) {
	all, err := p.admin.ListEndOffsets(context.Background(), p.s.topic(base))
	if err == nil {
		err = all.Error()
	}
	at := map[int32]int64{}
	for partition, o := range all[p.s.topic(base)] {
		at[partition] = o.Offset
	}
	return at, err
}

// allCommitted returns nil when the group's position in each partition of a topic is the end of its log.
func (p *producer) allCommitted(base string) error {
	ends, err := p.ends(base)
	if err != nil {
		return err
	}
	at, err := p.committed(base)
	if err == nil && !maps.Equal(at, ends) {
		err = fmt.Errorf("committed by partition: %v, ends: %v", at, ends)
	}
	return err
}

// members returns how many members the consumer group has.
func (p *producer) members() (int, error) {
	request := kmsg.NewPtrDescribeGroupsRequest()
	request.Groups = []string{p.s.group}
	response, err := request.RequestWith(context.Background(), p.client)
	if err != nil {
		return 0, err
	}
	return len(response.Groups[0].Members), nil
}
