package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// discovery is what one look at the cluster found.
type discovery struct {
	partitions map[string][]int // of the wanted topics that exist, in ascending order
	absent     []string         // wanted by name, and the broker says that they do not exist
}

func (d *discovery) topics() []string { return slices.Sorted(maps.Keys(d.partitions)) }

// metadata asks a broker about topics; about all of them if names is nil.
func (k *cluster) metadata(ctx context.Context, names []string) (*metadata.Response, error) {
	req := &request{Message: &metadata.Request{TopicNames: names}, newest: 8}
	resp, err := ask[*metadata.Response](ctx, k.control, 2*dialTimeout, req)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// That is all a broker does if a client talks plain text to a listener for TLS or SASL.
		err = fmt.Errorf("%w: the broker closed the connection; its listener may want TLS or SASL", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for topics: %w", strings.Join(k.source.Brokers, ","), err)
	}
	return resp, nil
}

// partitionsOf returns the ids of a topic's partitions in ascending order.
func partitionsOf(t metadata.ResponseTopic) []int {
	ids := make([]int, len(t.Partitions))
	for i, p := range t.Partitions {
		ids[i] = int(p.PartitionIndex)
	}
	slices.Sort(ids)
	return ids
}

// discover asks the cluster which of the wanted topics exist.
func (k *cluster) discover(ctx context.Context) (*discovery, error) {
	var names []string
	if !k.source.all() {
		for _, base := range k.source.Topics {
			names = append(names, k.source.topic(base))
		}
	}
	meta, err := k.metadata(ctx, names)
	if err != nil {
		return nil, err
	}
	found := &discovery{partitions: map[string][]int{}}
	var refused error
	for _, t := range meta.Topics {
		if k.source.all() && (t.IsInternal || !k.source.wants(t.Name)) {
			continue
		}
		switch code := kafka.Error(t.ErrorCode); {
		case code == kafka.UnknownTopicOrPartition:
			if !k.source.all() {
				found.absent = append(found.absent, t.Name)
			}
		case code != 0:
			// Neither found, as one such topic would stall the group, nor absent, as that would be
			// remembered.
			refused = fmt.Errorf("topic %s: %w", t.Name, code)
		case len(t.Partitions) > 0:
			found.partitions[t.Name] = partitionsOf(t)
		}
	}
	k.conditions.report(partTopics, "refused", refused)
	return found, nil
}

// topicState is what this process knows of the rows of TopicState, and what it has seen and could
// not write yet.
type topicState struct {
	store TopicState
	group string

	mu     sync.Mutex // guards what follows
	rows   map[string]bool
	unsaid map[string]bool // seen absent, the row not written yet
	loaded bool
}

func newTopicState(store TopicState, group string) *topicState {
	return &topicState{store: store, group: group, rows: map[string]bool{}, unsaid: map[string]bool{}}
}

// fromBeginning reports whether partitions of a topic that have no position start at their
// beginning. It reads the rows if it does not know.
func (s *topicState) fromBeginning(ctx context.Context, topic string) (bool, error) {
	if s.seenAbsent(topic) {
		return true, nil
	}
	// Another replica may have just written the row.
	if err := s.load(ctx); err != nil {
		return false, err
	}
	return s.seenAbsent(topic), nil
}

func (s *topicState) seenAbsent(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsaid[topic] || s.rows[topic]
}

func (s *topicState) load(ctx context.Context) error {
	rows, err := s.store.Topics(ctx, s.group)
	if err != nil {
		return fmt.Errorf("read the topics of group %s: %w", s.group, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, value := range rows {
		s.rows[topic] = s.rows[topic] || value // a true row stays true
	}
	s.loaded = true
	return nil
}

// remember writes a row unless it is known to exist.
func (s *topicState) remember(ctx context.Context, topic string, value bool) error {
	s.mu.Lock()
	known, exists := s.rows[topic]
	s.mu.Unlock()
	if exists && (known || !value) {
		return nil
	}
	if err := s.store.RememberTopic(ctx, s.group, topic, value); err != nil {
		return fmt.Errorf("remember topic %s of group %s: %w", topic, s.group, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[topic] = value
	delete(s.unsaid, topic)
	return nil
}

// observe keeps track of a look at the cluster. After an error this process still knows which
// topics were absent, and writes that later. With "*", no topic may be joined for before the first
// look has been written.
func (s *topicState) observe(ctx context.Context, found *discovery, all bool) error {
	s.mu.Lock()
	for _, t := range found.absent {
		if !s.rows[t] {
			s.unsaid[t] = true
		}
	}
	known := s.loaded && (!all || s.rows[AllTopics])
	s.mu.Unlock()
	if !known {
		if err := s.load(ctx); err != nil {
			return err
		}
	}
	for t, value := range s.due(found, all) {
		if err := s.remember(ctx, t, value); err != nil {
			return err
		}
	}
	if all { // after the rows of the first look
		return s.remember(ctx, AllTopics, true)
	}
	return nil
}

// due returns the rows to write after a look.
func (s *topicState) due(found *discovery, all bool) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := maps.Clone(s.unsaid)
	if !all {
		return rows
	}
	// At the first look topics get a false row. Later, a topic without a row was not there at the
	// first look.
	looked := s.rows[AllTopics]
	for t := range found.partitions {
		if _, exists := s.rows[t]; !exists {
			rows[t] = looked
		}
	}
	for t, value := range s.rows {
		if _, exists := found.partitions[t]; looked && !exists && !value {
			rows[t] = true // there at the first look, gone before its first position: new if it comes back
		}
	}
	return rows
}
