package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
)

// Consumer reads the topics of a group. New makes it, Run works.
type Consumer struct {
	options    Options
	cluster    *cluster
	log        *slog.Logger
	metrics    *metrics
	conditions *conditions
	state      *topicState
	current    atomic.Pointer[generation]
	looked     atomic.Bool // the cluster has answered once
	joined     atomic.Bool // a generation knew where all its partitions start, or no topic existed yet
	started    atomic.Bool
}

// New checks the options; it connects to nothing.
func New(o Options) (*Consumer, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	c := &Consumer{options: o, log: o.Logger, conditions: newConditions(o.Logger), state: newTopicState(o.TopicState, o.GroupID)}
	var err error
	if c.cluster, err = newCluster(o.Source, c.conditions); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	c.metrics, err = newMetrics(o.Registerer, func() float64 {
		if g := c.current.Load(); g != nil {
			return float64(g.lag())
		}
		return 0
	})
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	return c, nil
}

// Ready returns nil if the brokers answer and no condition holds, and otherwise the first that
// does. A replica that got no partition is ready. But it must have joined the group once, with the
// positions of its partitions committed: events published from then on are read, even by a new
// group that starts at the latest.
func (c *Consumer) Ready() error {
	if err := c.conditions.err(); err != nil {
		return err
	}
	if !c.looked.Load() {
		return fmt.Errorf("%s: waiting for the first answer of %v", partTopics, c.options.Brokers)
	}
	if !c.joined.Load() {
		return fmt.Errorf("%s: joining %s", partGroup, c.options.GroupID)
	}
	return nil
}

// Run reads until ctx ends, then settles and commits what it can in 5 s and leaves the group.
// Errors of the brokers do not end it; Ready reports them. It can be called once.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.started.CompareAndSwap(false, true) {
		return errors.New("bus: Run was called twice")
	}
	m := &member{Consumer: c, wake: make(chan struct{}, 1), first: map[string]*firstPositions{}}
	var running sync.WaitGroup
	running.Go(func() { m.run(ctx) })
	defer c.cluster.close()
	defer running.Wait()
	var failing backoff.Backoff
	missing := map[string]bool{}
	for {
		delay := c.options.TopicPoll*4/5 + rand.N(c.options.TopicPoll*2/5)
		if found, err := c.look(ctx); err == nil {
			failing.Reset()
			c.follow(m, found, missing)
		} else if delay = min(failing.Next(), delay); ctx.Err() != nil {
			return nil
		}
		if backoff.Sleep(ctx, delay) != nil {
			return nil
		}
	}
}

// look asks the cluster for topics and keeps track of them. With "*" no topic may be joined for
// before that is written.
func (c *Consumer) look(ctx context.Context) (*discovery, error) {
	found, err := c.cluster.discover(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.conditions.report(partTopics, "", err)
	if err != nil {
		return nil, err
	}
	err = c.state.observe(ctx, found, c.options.all())
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.conditions.report(partMemory, "", err)
	if err != nil && c.options.all() {
		return nil, err
	}
	if len(found.absent) > 0 && !c.looked.Load() {
		c.log.Warn("topics do not exist; if their names are right they will be read from their beginning", "topics", found.absent)
	}
	if len(found.partitions) == 0 && !c.looked.Load() {
		c.log.Info("no topic to read exists yet; waiting for one", "look_every", c.options.TopicPoll)
	}
	c.looked.Store(true)
	return found, nil
}

// follow makes the member ask for the topics found. A topic is given up only when two looks in a
// row do not find it: a broker that has just started may not know all of them. missing holds those
// that the last look did not find.
func (c *Consumer) follow(m *member, found *discovery, missing map[string]bool) {
	topics := found.topics()
	for _, t := range m.topics() {
		_, exists := found.partitions[t]
		if !exists && !missing[t] {
			topics = append(topics, t)
		}
		missing[t] = !exists
	}
	slices.Sort(topics)
	if len(topics) == 0 {
		c.joined.Store(true)
	}
	m.want(topics, found)
}
