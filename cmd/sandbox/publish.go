package main

import (
	"context"
	"time"
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

// waitDelivered waits until nothing is due, and fails if the daemon ends earlier.
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
