package kafka

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
)

// balancer is round robin over all partitions of all topics. kafka-go's starts with the first
// member for each topic, so it would give many topics of one partition all to the same process. The
// name is the protocol's standard one; only the leader's arithmetic counts.
type balancer struct {
	mu sync.Mutex
	// counted is the number of partitions of each topic that this process saw when it assigned them
	// as the leader; nil if it is not the leader. Comparing the cluster with this, rather than with
	// an earlier look, finds a partition that the broker did not know of yet.
	counted map[string]int
}

func (*balancer) ProtocolName() string { return "roundrobin" }

func (*balancer) UserData() ([]byte, error) { return nil, nil }

// AssignGroups assigns the partitions; the group's leader calls it.
func (b *balancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	members = slices.SortedFunc(slices.Values(members), func(x, y kafka.GroupMember) int { return strings.Compare(x.ID, y.ID) })
	assigned := make(kafka.GroupMemberAssignments, len(members))
	byTopic := map[string][]int{}
	for _, p := range partitions {
		byTopic[p.Topic] = append(byTopic[p.Topic], p.ID)
	}
	counted := make(map[string]int, len(byTopic))
	for _, m := range members {
		assigned[m.ID] = map[string][]int{}
		for _, t := range m.Topics {
			counted[t] = len(byTopic[t])
		}
	}
	turn := 0
	for _, topic := range slices.Sorted(maps.Keys(byTopic)) {
		for _, partition := range slices.Sorted(slices.Values(byTopic[topic])) {
			for range members {
				m := members[turn%len(members)]
				turn++
				if slices.Contains(m.Topics, topic) {
					assigned[m.ID][topic] = append(assigned[m.ID][topic], partition)
					break
				}
			}
		}
	}
	b.mu.Lock()
	b.counted = counted
	b.mu.Unlock()
	return assigned
}

// reset forgets the assignment when its generation has ended.
func (b *balancer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counted = nil
}

// outdated reports whether this process assigned the partitions and the cluster has a different
// number of them by now.
func (b *balancer) outdated(found *discovery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic, n := range b.counted {
		if parts, exists := found.partitions[topic]; exists && len(parts) != n {
			return true
		}
	}
	return false
}
