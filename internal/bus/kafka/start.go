package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/checkpoint"
)

// start finds out where the partitions start and starts them: those with a committed position at
// once, the others topic by topic. It returns when all are started.
func (g *generation) start(ctx context.Context) {
	if g.count == 0 {
		return
	}
	var known map[string]map[int]int64
	err := g.conditions.retry(ctx, partStart, "", func() (err error) {
		if known, err = g.committed(ctx, g.assigned); known != nil {
			return nil // seek asks again for a partition that was refused
		}
		return err
	})
	if err != nil {
		return
	}
	var seeking sync.WaitGroup
	for topic, ids := range g.assigned {
		without := g.addCommitted(ctx, topic, ids, known[topic])
		seeking.Go(func() { g.seek(ctx, topic, without) })
	}
	seeking.Wait()
}

// addCommitted starts the partitions that have a committed position, and returns the others.
func (g *generation) addCommitted(ctx context.Context, topic string, ids []int, committed map[int]int64) (without []int) {
	for _, id := range ids {
		if at, ok := committed[id]; ok {
			g.add(ctx, topic, id, at)
		} else {
			without = append(without, id)
		}
	}
	return without
}

// seek starts those partitions of a topic that had no committed position. It goes on trying until
// it knows where.
func (g *generation) seek(ctx context.Context, topic string, without []int) {
	defer g.conditions.forget(partStart, topic)
	var failing backoff.Backoff
	first := g.firstPositionsOf(topic, g.id)
	for len(without) > 0 {
		left, err := g.seekOnce(ctx, topic, without, first)
		if ctx.Err() != nil {
			return
		}
		if len(left) < len(without) {
			failing.Reset()
		}
		without = left
		g.conditions.report(partStart, topic, err)
		if len(without) > 0 && failing.Wait(ctx) != nil {
			return
		}
	}
	// If Kafka drops the positions later, the group is not taken for a new one.
	_ = g.conditions.retry(ctx, partMemory, topic, func() error { return g.state.remember(ctx, topic, true) })
}

// firstPositions keeps the first positions of a topic across attempts to commit them. A commit
// whose answer was lost may be applied late, after others have started to read. With the same
// numbers it can only make them read again; with later numbers it could skip events. They outlive a
// generation object because a member that rejoins can get the same generation again.
type firstPositions struct {
	generation int32
	offsets    map[int]int64
}

func (m *member) firstPositionsOf(topic string, generation int32) *firstPositions {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.first[topic]; f != nil && f.generation == generation {
		return f
	}
	f := &firstPositions{generation: generation}
	m.first[topic] = f
	return f
}

// seekOnce starts the partitions whose position it can find out, and returns the others.
func (g *generation) seekOnce(ctx context.Context, topic string, without []int, first *firstPositions) (left []int, err error) {
	beginning, err := g.state.fromBeginning(ctx, topic)
	if err != nil {
		return without, err
	}
	found, err := g.cluster.discover(ctx)
	if err != nil {
		return without, err
	}
	all := found.partitions[topic]
	for _, id := range without {
		if !slices.Contains(all, id) {
			return without, fmt.Errorf("look for partition %d of topic %s: %w", id, topic, kafka.UnknownTopicOrPartition)
		}
	}
	positions, err := g.committed(ctx, map[string][]int{topic: all})
	if err != nil {
		return without, err
	}
	committed := positions[topic]
	if without = g.addCommitted(ctx, topic, without, committed); len(without) == 0 {
		return nil, nil
	}
	unknown, which := without, kafka.FirstOffset
	if !beginning && len(committed) == 0 {
		if !slices.Contains(g.assigned[topic], all[0]) {
			return without, nil // its owner commits positions for all
		}
		if g.options.StartOffset == Latest {
			which = kafka.LastOffset
		}
		unknown = all
	}
	missing := func(id int) bool {
		_, ok := first.offsets[id]
		return !ok
	}
	if slices.ContainsFunc(unknown, missing) {
		if first.offsets, err = offsetsAt(ctx, g.routes.Client, topic, unknown, which); err != nil {
			return without, err
		}
	}
	// Before the first record is handled: if the process dies now, the next one must not find
	// another "latest".
	begin := make(map[int]int64, len(unknown))
	for _, id := range unknown {
		begin[id] = first.offsets[id]
	}
	if err := g.commit(ctx, map[string]map[int]int64{topic: begin}); err != nil {
		return without, fmt.Errorf("commit the first positions of topic %s: %w", topic, err)
	}
	g.log.Info("first positions committed", "topic", topic, "partitions", len(unknown), "at_beginning", which == kafka.FirstOffset)
	return g.addCommitted(ctx, topic, without, begin), nil
}

// committed returns the positions of the group; nil if they could not be asked for. Partitions
// without one are not in it, and neither are those of which err says that they were refused.
func (g *generation) committed(ctx context.Context, of map[string][]int) (found map[string]map[int]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := g.cluster.control.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: g.options.GroupID, Topics: of})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		return nil, fmt.Errorf("fetch the positions of group %s: %w", g.options.GroupID, err)
	}
	found = map[string]map[int]int64{}
	for topic, ids := range of {
		found[topic] = map[int]int64{}
		if len(resp.Topics[topic]) != len(ids) {
			err = errors.New("fetch positions: the broker did not answer for every partition")
		}
		for _, p := range resp.Topics[topic] {
			switch {
			case p.Error != nil:
				err = fmt.Errorf("fetch the position of %s/%d in group %s: %w", topic, p.Partition, g.options.GroupID, p.Error)
			case p.CommittedOffset > checkpoint.None:
				found[topic][p.Partition] = p.CommittedOffset
			}
		}
	}
	return found, err
}
