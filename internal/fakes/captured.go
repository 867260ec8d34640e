package fakes

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

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
