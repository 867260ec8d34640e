package main

import (
	"context"
	"crypto/rand"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// publish publishes n events without a pause.
func (s *sandbox) publish(ctx context.Context, n int) error {
	for i := range n {
		if err := s.publishOne(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// publishForEver publishes an event at each tick until ctx ends. It is an error if the daemon ends.
func (s *sandbox) publishForEver(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		err := s.publishOne(ctx, i)
		if err == nil && i%trimEvery == trimEvery-1 {
			err = s.trim(ctx)
		}
		if err == nil {
			err = await(ctx, s, tick.C)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// trimEvery is the number of events between two calls of trim.
const trimEvery = 1000

// trim deletes committed records: the broker keeps all in memory, and the sandbox may run for days.
func (s *sandbox) trim(ctx context.Context) error {
	for _, topic := range topics(s.messages) {
		for p := range int32(partitions) {
			at, err := s.broker.Committed(ctx, s.group, topic, p)
			if err == nil && at > 0 {
				err = s.broker.DeleteRecords(topic, p, at)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// publishOne publishes a message as a new event. The ledger must know of it before it can arrive.
func (s *sandbox) publishOne(ctx context.Context, i int) error {
	m := s.messages[i%len(s.messages)]
	id := newEventID()
	s.ledger.published(id, m.Type)
	return s.broker.Publish(ctx, m.Renew(id, time.Now(), int32(i/len(s.messages)%partitions)))
}

// captured holds records of the platform's own producer with their schemas, in the order in which
// they are published.
//
//go:embed messages/*.json
var captured embed.FS

// topicPrefix is the EVENT_BUS_TOPIC_PREFIX of the captured platform.
const topicPrefix = "prod"

func loadMessages() ([]*fakes.Captured, error) {
	names, err := fs.Glob(captured, "messages/*.json")
	if err != nil {
		return nil, err
	}
	all := make([]*fakes.Captured, len(names))
	for i, name := range names {
		text, err := captured.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if all[i], err = fakes.ParseCaptured(text); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return all, nil
}

func topics(messages []*fakes.Captured) []string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Topic)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// newEventID returns a UUID, as the platform uses.
func newEventID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, as documented
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
