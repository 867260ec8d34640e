package main

import (
	"crypto/rand"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/embedded"
)

// captured holds records that the platform's own producer wrote to a real Kafka, with the schemas that it registered. They are
// published in the order of the files' names.
//
//go:embed messages/*.json
var captured embed.FS

// message is a captured record.
type message struct {
	Type     string `json:"event_type"`
	Topic    string `json:"topic"`
	Key      []byte `json:"key_b64"`
	Value    []byte `json:"value_b64"`
	Headers  []header
	KeyID    int    `json:"key_schema_id"`
	KeyText  string `json:"key_schema"`
	SchemaID int    `json:"value_schema_id"`
	Schema   string `json:"value_schema"`
}

type header struct {
	Key   string `json:"key"`
	Value []byte `json:"value_b64"`
}

// topicPrefix is that of the captured platform, as EVENT_BUS_TOPIC_PREFIX has it.
const topicPrefix = "prod"

func loadMessages() ([]*message, error) {
	names, err := fs.Glob(captured, "messages/*.json")
	if err != nil {
		return nil, err
	}
	all := make([]*message, len(names))
	for i, name := range names {
		text, err := captured.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all[i] = &message{}
		if err := json.Unmarshal(text, all[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
}

// topics returns the topics of the messages.
func topics(messages []*message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Topic)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// baseTopics returns topics without the prefix, as WEBHOOK_DISPATCHER_TOPICS has them.
func baseTopics(full []string) []string {
	base := make([]string, len(full))
	for i, topic := range full {
		base[i] = strings.TrimPrefix(topic, topicPrefix+"-")
	}
	return base
}

// renew makes a record of the message for an event that happens now: key, value and the other headers are the captured ones.
func (m *message) renew(eventID string, now time.Time, partition int32) embedded.Message {
	headers := make([]kgo.RecordHeader, len(m.Headers))
	for i, h := range m.Headers {
		switch h.Key {
		case "ce_id":
			h.Value = []byte(eventID)
		case "ce_time":
			h.Value = []byte(now.UTC().Format("2006-01-02T15:04:05.000000+00:00"))
		}
		headers[i] = kgo.RecordHeader{Key: h.Key, Value: h.Value}
	}
	return embedded.Message{Topic: m.Topic, Partition: partition, Key: m.Key, Value: m.Value, Headers: headers, Time: now}
}

// newEventID returns an id as the platform spells its own.
func newEventID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, as documented
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
