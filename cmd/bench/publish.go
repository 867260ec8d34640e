package main

import (
	"context"
	_ "embed"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// captured is a record that the platform's own producer wrote to a real Kafka.
//
//go:embed message.json
var captured []byte

const (
	partitions = 6
	batch      = 1000
)

// event returns the message as a new event, with the time and the sequence number in its id.
func (b *bed) event(seq int, now time.Time) fakes.Message {
	return b.message.Renew(eventID(now, seq), now, int32(seq%partitions))
}

// publish publishes events as fast as the broker accepts them.
func (b *bed) publish(ctx context.Context, from, to int) error {
	for from < to {
		n := min(batch, to-from)
		events := make([]fakes.Message, n)
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
