package main

import (
	"context"
	_ "embed"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/embedded"
)

// captured is a record that the platform's own producer wrote to a real Kafka.
//
//go:embed message.json
var captured []byte

type message struct {
	Topic    string `json:"topic"`
	Key      []byte `json:"key_b64"`
	Value    []byte `json:"value_b64"`
	Headers  []header
	SchemaID int    `json:"value_schema_id"`
	Schema   string `json:"value_schema"`
}

type header struct {
	Key   string `json:"key"`
	Value []byte `json:"value_b64"`
}

const (
	partitions = 6
	batch      = 1000
)

// event is the message as a new event. Its id says when it was published and which one it is.
func (b *bed) event(seq int, now time.Time) embedded.Message {
	headers := make([]kgo.RecordHeader, len(b.message.Headers))
	for i, h := range b.message.Headers {
		switch h.Key {
		case "ce_id":
			h.Value = appendID(nil, now, seq)
		case "ce_time":
			h.Value = []byte(now.UTC().Format("2006-01-02T15:04:05.000000+00:00"))
		}
		headers[i] = kgo.RecordHeader{Key: h.Key, Value: h.Value}
	}
	return embedded.Message{
		Topic: b.message.Topic, Partition: int32(seq % partitions), Key: b.message.Key, Value: b.message.Value, Headers: headers, Time: now,
	}
}

// publish publishes events as fast as the broker takes them.
func (b *bed) publish(ctx context.Context, from, to int) error {
	for from < to {
		n := min(batch, to-from)
		events := make([]embedded.Message, n)
		for i := range events {
			events[i] = b.event(from+i, time.Now())
		}
		if err := b.broker.Publish(ctx, events...); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// pace publishes the scenario's events one by one at its rate.
func (b *bed) pace(ctx context.Context, s scenario) error {
	began := time.Now()
	for i := range s.events {
		wait := time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(s.rate)))
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := b.broker.Publish(ctx, b.event(i, time.Now())); err != nil {
			return err
		}
	}
	return nil
}
