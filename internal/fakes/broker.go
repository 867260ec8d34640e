// Package fakes runs a Kafka broker, a schema registry and a database in this process, on
// 127.0.0.1, for tests and the sandbox. They speak the real protocols, without promises about
// durability or speed. A test keeps this package out of the daemon's binary.
package fakes

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// BrokerOptions configure a Broker. The zero value has no topics, TLS, SASL or topic creation.
type BrokerOptions struct {
	Topics     map[string]int32 // created at the start, with their number of partitions
	AutoCreate bool             // create a topic of 3 partitions when a client asks for it and allows that
	SASL       []Credential     // the accepted users; none means no authentication
	TLS        *tls.Config      // the server's; nil means plain text
	ClientTLS  *tls.Config      // the Broker's own client's, if TLS is set
	DataDir    string           // keeps the data on disk, for a later Broker; empty means memory
	Port       int              // to listen on; 0 picks a free one
}

// Credential is a user of the broker. Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
type Credential struct{ Mechanism, User, Password string }

// internalUser is the SASL user of the broker's own client.
const internalUser = "embedded-broker"

// Broker is a Kafka broker in this process.
type Broker struct {
	cluster    *kfake.Cluster
	clientOpts []kgo.Opt
	client     *kgo.Client
}

// StartBroker starts a broker and a client for it. Close stops both.
func StartBroker(o BrokerOptions) (*Broker, error) {
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.DefaultNumPartitions(3), kfake.GroupMinSessionTimeout(100 * time.Millisecond),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": "104857600"}),
	}
	if o.Port != 0 {
		opts = append(opts, kfake.Ports(o.Port))
	}
	if o.AutoCreate {
		opts = append(opts, kfake.AllowAutoTopicCreation())
	}
	if o.DataDir != "" {
		opts = append(opts, kfake.DataDir(o.DataDir))
	}
	clientOpts := []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(100 << 20),
		kgo.BrokerMaxWriteBytes(200 << 20), kgo.ProducerLinger(0), kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()), // like the platform's producer
	}
	if o.TLS != nil {
		opts = append(opts, kfake.TLS(o.TLS))
		clientOpts = append(clientOpts, kgo.DialTLSConfig(o.ClientTLS))
	}
	if len(o.SASL) > 0 {
		opts = append(opts, kfake.EnableSASL(), kfake.Superuser("PLAIN", internalUser, internalUser))
		for _, c := range o.SASL {
			opts = append(opts, kfake.Superuser(c.Mechanism, c.User, c.Password))
		}
		clientOpts = append(clientOpts, kgo.SASL(plain.Auth{User: internalUser, Pass: internalUser}.AsMechanism()))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("start the embedded broker: %w", err)
	}
	b := &Broker{cluster: cluster, clientOpts: append(clientOpts, kgo.SeedBrokers(cluster.ListenAddrs()...))}
	if err := b.Forget(); err != nil {
		cluster.Close()
		return nil, err
	}
	for topic, partitions := range o.Topics {
		if cluster.TopicInfo(topic) != nil {
			continue // kept in the data directory
		}
		if err := b.CreateTopic(topic, partitions); err != nil {
			b.Close()
			return nil, err
		}
	}
	return b, nil
}

// Close stops the broker and its client.
func (b *Broker) Close() {
	b.client.Close()
	b.cluster.Close()
}

// Forget replaces the Broker's client after a topic was deleted and created again, because the old
// one caches the topic's id. It must not be called concurrently with other methods.
func (b *Broker) Forget() error {
	client, err := kgo.NewClient(b.clientOpts...)
	if err != nil {
		return fmt.Errorf("start the embedded broker's client: %w", err)
	}
	if b.client != nil {
		b.client.Close()
	}
	b.client = client
	return nil
}

// Addrs returns the addresses to give to clients.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Cluster gives access to the fake broker, to inject faults.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// CreateTopic creates a topic.
func (b *Broker) CreateTopic(topic string, partitions int32) error {
	if err := b.cluster.CreateTopic(topic, partitions, nil); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}

// SetPartitions adds partitions to a topic until it has that many.
func (b *Broker) SetPartitions(ctx context.Context, topic string, partitions int) error {
	done, err := kadm.NewClient(b.client).UpdatePartitions(ctx, partitions, topic)
	if err := cmp.Or(err, done.Error()); err != nil {
		return fmt.Errorf("add partitions to %s: %w", topic, err)
	}
	return b.Forget()
}

// Message is a record to publish. A nil Value is a tombstone.
type Message struct {
	Topic     string
	Partition int32
	Key       []byte
	Value     []byte
	Headers   []kgo.RecordHeader
	Time      time.Time // the zero time means now
}

// Publish writes the messages and returns when all of them are acknowledged.
func (b *Broker) Publish(ctx context.Context, messages ...Message) error {
	records := make([]*kgo.Record, len(messages))
	for i, m := range messages {
		records[i] = &kgo.Record{Topic: m.Topic, Partition: m.Partition, Key: m.Key, Value: m.Value, Headers: m.Headers, Timestamp: m.Time}
	}
	if err := b.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("publish to the embedded broker: %w", err)
	}
	return nil
}

// DeleteRecords moves the start of a partition to offset, as retention does.
func (b *Broker) DeleteRecords(topic string, partition int32, offset int64) error {
	if err := b.cluster.DeleteRecords(topic, partition, offset); err != nil {
		return fmt.Errorf("delete records of %s: %w", topic, err)
	}
	return nil
}

// Committed returns the committed offset of a partition, -1 if the group has none.
func (b *Broker) Committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	offsets, err := kadm.NewClient(b.client).FetchOffsetsForTopics(ctx, group, topic)
	if err != nil {
		return 0, fmt.Errorf("fetch the offset of group %s: %w", group, err)
	}
	at, ok := offsets.Lookup(topic, partition)
	if !ok {
		return 0, fmt.Errorf("fetch the offset of group %s: topic %s has no partition %d", group, topic, partition)
	}
	return at.At, nil
}

// Commit sets the committed offset of a partition for a group without members.
func (b *Broker) Commit(ctx context.Context, group, topic string, partition int32, offset int64) error {
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, offset, -1)
	if err := kadm.NewClient(b.client).CommitAllOffsets(ctx, group, offsets); err != nil {
		return fmt.Errorf("commit for group %s: %w", group, err)
	}
	return nil
}

// Captured is a record that the platform's producer wrote to a real Kafka, with its schemas.
type Captured struct {
	Type    string `json:"event_type"`
	Topic   string `json:"topic"` // with its prefix
	Key     []byte `json:"key_b64"`
	Value   []byte `json:"value_b64"`
	Headers []struct {
		Key   string `json:"key"`
		Value []byte `json:"value_b64"`
	}
	KeyID    int    `json:"key_schema_id"`
	KeyText  string `json:"key_schema"`
	SchemaID int    `json:"value_schema_id"`
	Schema   string `json:"value_schema"`
}

// ParseCaptured reads a captured record from its JSON.
func ParseCaptured(text []byte) (*Captured, error) {
	c := &Captured{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("read a captured record: %w", err)
	}
	return c, nil
}

// Renew returns the record as a message with a new event id and time.
func (c *Captured) Renew(eventID string, now time.Time, partition int32) Message {
	headers := make([]kgo.RecordHeader, len(c.Headers))
	for i, h := range c.Headers {
		switch h.Key {
		case "ce_id":
			h.Value = []byte(eventID)
		case "ce_time":
			h.Value = []byte(now.UTC().Format("2006-01-02T15:04:05.000000+00:00"))
		}
		headers[i] = kgo.RecordHeader(h)
	}
	return Message{Topic: c.Topic, Partition: partition, Key: c.Key, Value: c.Value, Headers: headers, Time: now}
}
