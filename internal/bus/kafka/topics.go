package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// discovery is what one look at the cluster found.
type discovery struct {
	partitions map[string][]int // of the wanted topics that exist
	absent     []string         // wanted by name, and the broker says that they do not exist
}

func (d *discovery) topics() []string {
	names := make([]string, 0, len(d.partitions))
	for t := range d.partitions {
		names = append(names, t)
	}
	slices.Sort(names)
	return names
}

// metadata asks a broker about topics; about all of them if names is nil.
func (k *cluster) metadata(ctx context.Context, names []string) (*metadata.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	answer, err := k.control.send(ctx, &request{Message: &metadata.Request{TopicNames: names}, newest: 8})
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// That is all a broker does if a client talks plain text to a listener for TLS or SASL.
		err = fmt.Errorf("%w: the broker closed the connection; its listener may want TLS or SASL", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for topics: %w", strings.Join(k.options.Brokers, ","), err)
	}
	return answer.(*metadata.Response), nil
}

// discover asks the cluster which of the wanted topics exist.
func (k *cluster) discover(ctx context.Context) (*discovery, error) {
	var names []string
	if !k.options.all() {
		for _, base := range k.options.Topics {
			names = append(names, k.options.topic(base))
		}
	}
	meta, err := k.metadata(ctx, names)
	if err != nil {
		return nil, err
	}
	found := &discovery{partitions: map[string][]int{}}
	var refused error
	for _, t := range meta.Topics {
		if k.options.all() && (t.IsInternal || !k.options.wants(t.Name)) {
			continue
		}
		switch code := kafka.Error(t.ErrorCode); {
		case code == kafka.UnknownTopicOrPartition:
			if !k.options.all() {
				found.absent = append(found.absent, t.Name)
			}
		case code != 0:
			// Neither found, as one such topic would stall the group, nor absent, as that would be
			// remembered.
			refused = fmt.Errorf("topic %s: %w", t.Name, code)
		case len(t.Partitions) > 0:
			for _, p := range t.Partitions {
				found.partitions[t.Name] = append(found.partitions[t.Name], int(p.PartitionIndex))
			}
			slices.Sort(found.partitions[t.Name])
		}
	}
	if refused != nil {
		k.conditions.report(partTopics, "refused", refused)
	} else {
		k.conditions.clear(partTopics, "refused")
	}
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

func newTopicState(memory TopicState, group string) *topicState {
	return &topicState{store: memory, group: group, rows: map[string]bool{}, unsaid: map[string]bool{}}
}

// fromBeginning reports whether partitions of a topic that have no position start at their
// beginning. It reads the rows if it does not know.
func (m *topicState) fromBeginning(ctx context.Context, topic string) (bool, error) {
	m.mu.Lock()
	known := m.unsaid[topic] || m.rows[topic]
	m.mu.Unlock()
	if known {
		return true, nil
	}
	// Another replica may have just written the row.
	if err := m.load(ctx); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[topic], nil
}

func (m *topicState) load(ctx context.Context) error {
	rows, err := m.store.Topics(ctx, m.group)
	if err != nil {
		return fmt.Errorf("read the topics of group %s: %w", m.group, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for topic, value := range rows {
		m.rows[topic] = m.rows[topic] || value // a true row stays true
	}
	m.loaded = true
	return nil
}

func (m *topicState) row(topic string) (value, exists bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, exists = m.rows[topic]
	return value, exists
}

// remember writes a row unless it is known to exist.
func (m *topicState) remember(ctx context.Context, topic string, value bool) error {
	if v, exists := m.row(topic); exists && (v || !value) {
		return nil
	}
	if err := m.store.RememberTopic(ctx, m.group, topic, value); err != nil {
		return fmt.Errorf("remember topic %s of group %s: %w", topic, m.group, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[topic] = value
	delete(m.unsaid, topic)
	return nil
}

// observe keeps track of a look at the cluster. After an error this process still knows which
// topics were absent, and writes that later. With "*", no topic may be joined for before the first
// look has been written.
func (m *topicState) observe(ctx context.Context, found *discovery, all bool) error {
	m.mu.Lock()
	for _, t := range found.absent {
		if !m.rows[t] {
			m.unsaid[t] = true
		}
	}
	unsaid := make([]string, 0, len(m.unsaid))
	for t := range m.unsaid {
		unsaid = append(unsaid, t)
	}
	loaded := m.loaded
	m.mu.Unlock()
	_, looked := m.row(AllTopics)
	if !loaded || all && !looked {
		if err := m.load(ctx); err != nil {
			return err
		}
		_, looked = m.row(AllTopics)
	}
	for _, t := range unsaid {
		if err := m.remember(ctx, t, true); err != nil {
			return err
		}
	}
	if !all {
		return nil
	}
	return m.observeAll(ctx, found, looked)
}

func (m *topicState) observeAll(ctx context.Context, found *discovery, looked bool) error {
	for _, t := range found.topics() {
		// At the first look topics get a false row. Later, a topic without a row was not there at
		// the first look.
		if _, exists := m.row(t); !exists {
			if err := m.remember(ctx, t, looked); err != nil {
				return err
			}
		}
	}
	if !looked {
		return m.remember(ctx, AllTopics, true)
	}
	m.mu.Lock()
	var gone []string
	for t, value := range m.rows {
		if _, exists := found.partitions[t]; !exists && !value && t != AllTopics {
			gone = append(gone, t) // there at the first look, gone before its first position: new if it comes back
		}
	}
	m.mu.Unlock()
	for _, t := range gone {
		if err := m.remember(ctx, t, true); err != nil {
			return err
		}
	}
	return nil
}
