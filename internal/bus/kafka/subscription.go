package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// subscription is a membership in the group with a fixed set of topics. kafka-go cannot change the set of a member, so
// another set is another subscription.
type subscription struct {
	*Consumer
	topics   []string
	conns    *connections
	routes   *kafka.Transport
	client   *kafka.Client
	group    *kafka.ConsumerGroup
	balancer *balancer
	running  sync.WaitGroup // generations' run, also one that kafka-go does not wait for
	loop     chan struct{}  // closed when next has returned

	firstMu sync.Mutex // guards first
	first   map[string]*firstPositions
}

// joinTimeout is how long the group waits for its members to come back in a rebalance.
const joinTimeout = 30 * time.Second

func (c *Consumer) subscribe(topics []string) (*subscription, error) {
	s := &subscription{
		Consumer: c, topics: topics, conns: newConnections(), balancer: &balancer{}, loop: make(chan struct{}),
		first: map[string]*firstPositions{},
	}
	s.routes = c.transport(s.conns, topics)
	s.client = &kafka.Client{Addr: c.addr(), Transport: s.routes}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: c.options.GroupID, Brokers: c.options.Brokers, Topics: topics, Dialer: c.dialer(s.conns),
		GroupBalancers: []kafka.GroupBalancer{s.balancer},
		SessionTimeout: c.options.SessionTimeout, HeartbeatInterval: c.options.SessionTimeout / 5, RebalanceTimeout: joinTimeout,
		JoinGroupBackoff: time.Second + rand.N(time.Second), StartOffset: noPosition,
	})
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", c.options.GroupID, err)
	}
	s.group = group
	go s.next()
	c.metrics.subscribed.Set(float64(len(topics)))
	c.log.Info("bus: subscribed", "group", c.options.GroupID, "topics", topics)
	return s, nil
}

// next runs generation after generation until the group is closed.
func (s *subscription) next() {
	defer close(s.loop)
	var failing time.Time
	for {
		gen, err := s.group.Next(context.Background()) // ends with ErrGroupClosed
		switch {
		case errors.Is(err, kafka.ErrGroupClosed):
			return
		case err != nil:
			if failing.IsZero() {
				failing = time.Now()
			}
			// A rebalance that overtakes another is normal. kafka-go backs off by itself.
			if !errors.Is(err, kafka.RebalanceInProgress) || time.Since(failing) > joinTimeout {
				s.conditions.report(partGroup, "", fmt.Errorf("join group %s: %w", s.options.GroupID, err))
			}
		default:
			failing = time.Time{}
			s.conditions.clear(partGroup, "")
			g := s.newGeneration(gen)
			s.running.Add(1)
			gen.Start(func(ctx context.Context) {
				defer s.running.Done()
				g.run(ctx)
			})
		}
	}
}

// close ends the generation as it should end, leaves the group, and gives up on a broker that does not answer.
func (s *subscription) close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = s.group.Close() // always nil
	}()
	grace := time.Second
	if s.current.Load() != nil {
		grace += endTime
	}
	if !within(closed, grace) {
		s.conns.cut(false) // a JoinGroup, say; leaving opens a connection of its own
		if !within(closed, 3*time.Second) {
			s.conns.cut(true)
		}
	}
	<-closed
	<-s.loop
	s.running.Wait()
	s.routes.CloseIdleConnections()
	s.conns.cut(true)
	s.conditions.forget(partGroup, "")
	s.conditions.forget(partCommit, "")
	s.metrics.subscribed.Set(0)
}

func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
