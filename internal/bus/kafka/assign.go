package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/consumer"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/syncgroup"
)

// assignor is the standard name of what assign does. All members must give the same.
const assignor = "roundrobin"

// assign gives the partitions of all topics to the members in turn. wants holds the topics of each
// member, partitions the ids of each topic in ascending order.
func assign(wants map[string][]string, partitions map[string][]int) map[string]map[string][]int {
	members := slices.Sorted(maps.Keys(wants))
	assigned := make(map[string]map[string][]int, len(members))
	for _, m := range members {
		assigned[m] = map[string][]int{}
	}
	turn := 0
	for _, topic := range slices.Sorted(maps.Keys(partitions)) {
		for _, partition := range partitions[topic] {
			for range members {
				m := members[turn%len(members)]
				turn++
				if slices.Contains(wants[m], topic) {
					assigned[m][topic] = append(assigned[m][topic], partition)
					break
				}
			}
		}
	}
	return assigned
}

// plan assigns partitions to all members; the leader of the group calls it. counted is the number
// of partitions of each topic that it saw.
func (m *member) plan(ctx context.Context, members []joingroup.ResponseMember) (
	plan []syncgroup.RequestAssignment, counted counts, err error,
) {
	wants, counted := map[string][]string{}, counts{}
	for _, other := range members {
		var subscription consumer.Subscription
		if err := protocol.Unmarshal(other.Metadata, 0, &subscription); err != nil {
			return nil, nil, fmt.Errorf("read the topics of %s: %w", other.MemberID, err)
		}
		wants[other.MemberID] = subscription.Topics
		for _, topic := range subscription.Topics {
			counted[topic] = 0
		}
	}
	found, err := m.cluster.metadata(ctx, slices.Sorted(maps.Keys(counted)))
	if err != nil {
		return nil, nil, err
	}
	partitions := map[string][]int{}
	for _, t := range found.Topics {
		partitions[t.Name] = partitionsOf(t)
		counted[t.Name] = len(t.Partitions)
	}
	for id, topics := range assign(wants, partitions) {
		var share consumer.Assignment
		for topic, ids := range topics {
			t := consumer.TopicPartition{Topic: topic}
			for _, p := range ids {
				t.Partitions = append(t.Partitions, int32(p))
			}
			share.AssignedPartitions = append(share.AssignedPartitions, t)
		}
		encoded, err := protocol.Marshal(0, share)
		if err != nil {
			return nil, nil, err
		}
		plan = append(plan, syncgroup.RequestAssignment{MemberID: id, Assignment: encoded})
	}
	return plan, counted, nil
}

// counts is the number of partitions of each topic that the leader saw when it assigned them; nil
// in other members. Comparing the cluster with this, rather than with an earlier look, finds a
// partition that the broker did not know of yet.
type counts map[string]int

// outdated reports whether the cluster has a different number of partitions by now.
func (c counts) outdated(found *discovery) bool {
	for topic, n := range c {
		if parts, exists := found.partitions[topic]; exists && len(parts) != n {
			return true
		}
	}
	return false
}
