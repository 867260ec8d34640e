package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/segmentio/kafka-go"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus/checkpoint"
)

// start finds out where the partitions start and starts them: those with a committed position at
// once, the others topic by topic.
func (g *generation) start(ctx context.Context) {
	defer g.conditions.forget(partStart, "")
	var failing backoff.Backoff
	var known map[string]map[int]int64
	for g.count > 0 {
		var err error
		if known, _, err = g.committed(ctx, g.assigned); err == nil {
			g.conditions.clear(partStart, "")
			break
		}
		if ctx.Err() == nil {
			g.conditions.report(partStart, "", err)
		}
		if failing.Wait(ctx) != nil {
			return
		}
	}
	for topic, ids := range g.assigned {
		var without []int
		for _, id := range ids {
			if at, ok := known[topic][id]; ok {
				g.add(ctx, topic, id, at, at)
				continue
			}
			without = append(without, id)
		}
		g.seeking.Go(func() { g.seek(ctx, topic, without) })
	}
}

// seek starts those partitions of a topic that had no committed position. It goes on trying until
// it knows where.
func (g *generation) seek(ctx context.Context, topic string, without []int) {
	defer g.conditions.forget(partStart, topic)
	var failing backoff.Backoff
	first := g.firstPositionsOf(topic, g.id)
	for len(without) > 0 {
		started, err := g.seekOnce(ctx, topic, without, first)
		if ctx.Err() != nil {
			return
		}
		without = slices.DeleteFunc(without, func(id int) bool { return slices.Contains(started, id) })
		if len(started) > 0 {
			failing.Reset()
		}
		if err != nil {
			g.conditions.report(partStart, topic, err)
		} else {
			g.conditions.clear(partStart, topic)
		}
		if len(without) > 0 && failing.Wait(ctx) != nil {
			return
		}
	}
	g.settled(ctx, topic)
}

// settled remembers that the topic has positions. If Kafka drops them later, the group is not taken
// for a new one.
func (g *generation) settled(ctx context.Context, topic string) {
	var failing backoff.Backoff
	for ctx.Err() == nil {
		err := g.state.remember(ctx, topic, true)
		if err == nil {
			g.conditions.clear(partMemory, topic)
			return
		}
		if ctx.Err() == nil {
			g.conditions.report(partMemory, topic, err)
		}
		if failing.Wait(ctx) != nil {
			g.conditions.forget(partMemory, topic)
			return
		}
	}
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

// seekOnce starts the partitions whose position it can find out, and returns them.
func (g *generation) seekOnce(ctx context.Context, topic string, without []int, first *firstPositions) (started []int, err error) {
	beginning, err := g.state.fromBeginning(ctx, topic)
	if err != nil {
		return nil, err
	}
	all, err := g.topicPartitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	for _, id := range without {
		if !slices.Contains(all, id) {
			return nil, fmt.Errorf("partition %d is not in the metadata of topic %s yet", id, topic)
		}
	}
	positions, refused, err := g.committed(ctx, map[string][]int{topic: all})
	if err = errors.Join(err, refused); err != nil {
		return nil, err
	}
	committed := positions[topic]
	var unknown []int
	for _, id := range without {
		if at, ok := committed[id]; ok {
			g.add(ctx, topic, id, at, at)
			started = append(started, id)
			continue
		}
		unknown = append(unknown, id)
	}
	if len(unknown) == 0 {
		return started, nil
	}
	which := kafka.FirstOffset
	if !beginning && len(committed) == 0 {
		if !g.owns(topic, all[0]) {
			return started, nil // its owner commits positions for all
		}
		if g.options.StartOffset == Latest {
			which = kafka.LastOffset
		}
		unknown = all
	}
	if first.offsets == nil || !covers(first.offsets, unknown) {
		if first.offsets, err = bounds(ctx, g.routes.Client, topic, unknown, which); err != nil {
			first.offsets = nil
			return started, err
		}
	}
	// Before the first record is handled: if the process dies now, the next one must not find
	// another "latest".
	begin := make(map[int]int64, len(unknown))
	for _, id := range unknown {
		begin[id] = first.offsets[id]
	}
	if err := g.commit(ctx, map[string]map[int]int64{topic: begin}); err != nil {
		return started, fmt.Errorf("commit the first positions of topic %s: %w", topic, err)
	}
	g.log.Info("first positions committed", "topic", topic, "partitions", len(unknown), "at_beginning", which == kafka.FirstOffset)
	for _, id := range unknown {
		if slices.Contains(without, id) {
			g.add(ctx, topic, id, begin[id], begin[id])
			started = append(started, id)
		}
	}
	return started, nil
}

func covers(offsets map[int]int64, ids []int) bool {
	for _, id := range ids {
		if _, ok := offsets[id]; !ok {
			return false
		}
	}
	return true
}

func (g *generation) owns(topic string, id int) bool { return slices.Contains(g.assigned[topic], id) }

// topicPartitions returns the ids of a topic's partitions, in ascending order.
func (g *generation) topicPartitions(ctx context.Context, topic string) ([]int, error) {
	found, err := g.cluster.discover(ctx)
	if err != nil {
		return nil, err
	}
	ids := found.partitions[topic]
	if len(ids) == 0 {
		return nil, fmt.Errorf("topic %s: %w", topic, kafka.UnknownTopicOrPartition)
	}
	return ids, nil
}

// committed returns the positions of the group. Partitions without one are not in found, and an
// error is never taken for that. refused is the error of a single partition, which is not in found
// either.
func (g *generation) committed(ctx context.Context, of map[string][]int) (found map[string]map[int]int64, refused, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := g.cluster.control.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: g.options.GroupID, Topics: of})
	if err == nil {
		err = resp.Error
	}
	if err != nil {
		return nil, nil, fmt.Errorf("fetch the positions of group %s: %w", g.options.GroupID, err)
	}
	found = map[string]map[int]int64{}
	for topic, ids := range of {
		found[topic] = map[int]int64{}
		answered := 0
		for _, p := range resp.Topics[topic] {
			answered++
			switch {
			case p.Error != nil:
				refused = fmt.Errorf("fetch the position of %s/%d in group %s: %w", topic, p.Partition, g.options.GroupID, p.Error)
			case p.CommittedOffset > checkpoint.None:
				found[topic][p.Partition] = p.CommittedOffset
			}
		}
		if answered != len(ids) {
			refused = errors.New("fetch positions: the broker did not answer for every partition")
		}
	}
	return found, refused, nil
}
