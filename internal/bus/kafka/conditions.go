package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// The parts that can have a condition. Readiness names them in this order.
const (
	partTopics = "topics"
	partMemory = "topic memory"
	partGroup  = "consumer group"
	partStart  = "start position"
	partFetch  = "fetch"
	partCommit = "commit"
)

var parts = []string{partTopics, partMemory, partGroup, partStart, partFetch, partCommit}

// repeatLog is the time between two log lines about the same condition.
const repeatLog = time.Minute

// conditions are the errors that hold now, for readiness. They also keep a lasting error from
// flooding the log.
type conditions struct {
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	now    map[string]map[string]error
	logged map[string]logLine
}

type logLine struct {
	text string
	at   time.Time
}

func newConditions(log *slog.Logger) *conditions {
	return &conditions{log: log, now: map[string]map[string]error{}, logged: map[string]logLine{}}
}

// report sets a condition. key separates those of one part, such as two partitions.
func (t *conditions) report(part, key string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now[part] == nil {
		t.now[part] = map[string]error{}
	}
	t.now[part][key] = err
	// Not the whole text, which may hold a port or an offset that changes each time.
	text := class(err)
	if code := kafka.Error(0); errors.As(err, &code) {
		text += code.Title()
	}
	last := t.logged[part+key]
	if last.text == text && time.Since(last.at) < repeatLog {
		return
	}
	t.logged[part+key] = logLine{text: text, at: time.Now()}
	t.log.Warn("error; retrying", "part", part, "at", key, "error", err)
}

// clear ends a condition: the part works again.
func (t *conditions) clear(part, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.now[part][key]; !ok {
		return
	}
	delete(t.now[part], key)
	delete(t.logged, part+key)
	t.log.Info("recovered", "part", part, "at", key)
}

// forget drops a condition without saying that the part works: this process no longer uses it.
func (t *conditions) forget(part, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now[part], key)
	delete(t.logged, part+key)
}

// err returns the first condition in the order of parts.
func (t *conditions) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, part := range parts {
		for key, err := range t.now[part] {
			if key == "" {
				return fmt.Errorf("%s: %w", part, err)
			}
			return fmt.Errorf("%s: %s: %w", part, key, err)
		}
	}
	return nil
}

var errorClasses = []string{
	"authorization", "connection", "corrupt", "not_leader", "other", "out_of_range", "timeout", "unknown_topic",
}

// class names an error, from a bounded set.
func class(err error) string {
	if code, ok := errors.AsType[kafka.Error](err); ok {
		switch code {
		case kafka.OffsetOutOfRange:
			return "out_of_range"
		case kafka.UnknownTopicOrPartition, kafka.UnknownTopicID:
			return "unknown_topic"
		case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed,
			kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState:
			return "authorization"
		case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable,
			kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.OffsetNotAvailable, kafka.KafkaStorageError:
			return "not_leader"
		case kafka.RequestTimedOut:
			return "timeout"
		case kafka.InvalidMessage, kafka.UnsupportedCompressionType, kafka.InvalidRecord:
			return "corrupt"
		}
		return "other"
	}
	var network net.Error
	switch {
	case errors.Is(err, protocol.ErrNoTopic), errors.Is(err, protocol.ErrNoPartition):
		return "unknown_topic"
	case errors.Is(err, protocol.ErrNoLeader):
		return "not_leader"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "connection"
	case errors.Is(err, errCorrupt):
		return "corrupt"
	}
	return "other"
}
