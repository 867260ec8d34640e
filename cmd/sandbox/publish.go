package main

import (
	"context"
	"time"
)

// publish publishes n events, one right after the other.
func (s *sandbox) publish(ctx context.Context, n int) error {
	for i := range n {
		if err := s.publishOne(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// publishForEver publishes an event at each tick until ctx ends, which is no error, or the daemon does, which is one.
func (s *sandbox) publishForEver(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		err := s.publishOne(ctx, i)
		if err == nil && i%trimEvery == trimEvery-1 {
			err = s.trim(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return s.daemonEnded()
		case <-ctx.Done():
			return nil
		}
	}
}

// trimEvery is after how many events the broker's memory is trimmed.
const trimEvery = 1000

// trim deletes the records that the daemon is done with: the broker keeps everything in memory, and this may run for days.
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

// publishOne publishes the next message as a new event. What is due for it stands in the ledger before it can arrive.
func (s *sandbox) publishOne(ctx context.Context, i int) error {
	m := s.messages[i%len(s.messages)]
	id := newEventID()
	s.ledger.published(id, m.Type)
	return s.broker.Publish(ctx, m.Renew(id, time.Now(), int32(i/len(s.messages)%partitions)))
}

// waitDelivered waits until nothing is due any more, and fails when the daemon ends before.
func (s *sandbox) waitDelivered(ctx context.Context) error {
	select {
	case <-s.ledger.settled():
		return nil
	case <-s.ended:
		return s.daemonEnded()
	case <-ctx.Done():
		return ctx.Err()
	}
}
