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

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
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

	mu  sync.Mutex
	now map[place]condition // guarded by mu
}

// place is a part, and what separates conditions of the same part, such as two partitions.
type place struct{ part, key string }

type condition struct {
	err    error
	text   string // what was logged
	logged time.Time
}

func newConditions(log *slog.Logger) *conditions {
	return &conditions{log: log, now: map[place]condition{}}
}

// report sets a condition; with a nil error it ends one: the part works again.
func (t *conditions) report(part, key string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := place{part, key}
	last, failing := t.now[at]
	if err == nil {
		delete(t.now, at)
		if failing {
			t.log.Info("recovered", "part", part, "at", key)
		}
		return
	}
	// Not the whole text, which may hold a port or an offset that changes each time.
	text := class(err)
	if code, ok := errors.AsType[kafka.Error](err); ok {
		text += code.Title()
	}
	last.err = err
	if last.text != text || time.Since(last.logged) >= repeatLog {
		last.text, last.logged = text, time.Now()
		t.log.Warn("error; retrying", "part", part, "at", key, "error", err)
	}
	t.now[at] = last
}

// forget drops a condition without saying that the part works: this process no longer uses it.
func (t *conditions) forget(part, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now, place{part, key})
}

// retry calls try until it succeeds, and reports its errors. It returns an error only when ctx
// ends.
func (t *conditions) retry(ctx context.Context, part, key string, try func() error) error {
	defer t.forget(part, key)
	var failing backoff.Backoff
	for {
		err := try()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.report(part, key, err)
		if err == nil {
			return nil
		}
		if err := failing.Wait(ctx); err != nil {
			return err
		}
	}
}

// err returns the first condition in the order of parts.
func (t *conditions) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, part := range parts {
		for at, c := range t.now {
			switch {
			case at.part != part:
			case at.key == "":
				return fmt.Errorf("%s: %w", part, c.err)
			default:
				return fmt.Errorf("%s: %s: %w", part, at.key, c.err)
			}
		}
	}
	return nil
}

var errorClasses = []string{"authorization", "connection", "corrupt", "not_leader", "other", "out_of_range", "timeout", "unknown_topic"}

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
