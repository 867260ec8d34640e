package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
)

// Source is the topics of a cluster, and how to reach it. Brokers and Topics are required.
type Source struct {
	Brokers     []string    // the addresses to start from, host:port
	TopicPrefix string      // stands before every topic, joined with "-"; empty for none
	Topics      []string    // names without the prefix, or "*" alone for every topic under the prefix
	TLS         *tls.Config // nil for plain text
	SASL        *SASL       // nil for none
}

// Options say what to read and how. Source, GroupID, TopicState and Handler are required; otherwise
// the zero value is the default.
type Options struct {
	Source

	GroupID string
	// GroupInstanceID makes this process a static member of the group: one that comes back within
	// the session timeout gets its partitions back, and nobody else's move. It must be unique among
	// the members. Empty, the default, for a dynamic member.
	GroupInstanceID string
	// StartOffset is Latest (the default) or Earliest; see the package comment for when it counts.
	StartOffset string

	// MaxInFlight is the largest number of records of one partition from its watermark to the last
	// one read; 1024.
	MaxInFlight int
	// Budget is how many bytes of records all partitions together may hold; 32 MiB. Half of it is
	// divided evenly, so that no partition starves. A single record that is larger still passes.
	Budget int64
	// SessionTimeout is how long a member may be silent before its partitions go to others; 10 s,
	// at least 6 s.
	SessionTimeout time.Duration
	// CommitInterval is the time between two commits; 1 s. It bounds what is read again after a
	// crash.
	CommitInterval time.Duration
	// RecommitInterval is the time after which positions are committed even if they have not moved,
	// so that they do not expire; 1 h.
	RecommitInterval time.Duration

	TopicPoll  time.Duration         // the time between two looks for new topics and partitions; 10 s
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil registers nothing
	TopicState TopicState
	Handler    bus.Handler
	resetDelay time.Duration // how long a position must be above the end of the log to count; tests shorten it
}

// The values of Options.StartOffset.
const (
	Latest   = "latest"   // only what is written from now on
	Earliest = "earliest" // all that the topic still holds
)

// AllTopics stands, alone in Source.Topics, for every topic under the prefix; without a prefix, for
// every topic that is not internal to Kafka.
const AllTopics = "*"

// SASL are the credentials for the brokers. Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, in
// any case.
type SASL struct{ Mechanism, Username, Password string }

// TopicState remembers what Kafka does not know about topics; see the package comment. A method
// that fails is called again.
type TopicState interface {
	// Topics returns the rows of a group: whether partitions of a topic without a committed
	// position start at their beginning, because the topic was once seen absent or its first
	// positions have been committed.
	Topics(ctx context.Context, group string) (map[string]bool, error)
	// RememberTopic inserts or replaces the row of a topic; absent is the value that Topics
	// returns. A true row must not become false again. The name may be "*".
	RememberTopic(ctx context.Context, group, topic string, absent bool) error
}

const (
	drainTime = 4 * time.Second // from the end of a generation to the end of Drain
	endTime   = 5 * time.Second // to the end of the last commit
	pressTime = 100 * time.Millisecond
	// commitAfter is how many releases bring the next commit forward, so that less of a burst is
	// read again after a crash.
	commitAfter = 2000
	// fetchMax is the most that one fetch asks for: 1024 records of a usual size.
	fetchMax int64 = 1 << 20
	// fetchMin keeps fetches worth their round trip when there are thousands of partitions.
	fetchMin int64 = 16 << 10

	defaultResetDelay = 5 * time.Second
)

// check requires what the package cannot do without. Config checks how brokers and topics are
// written.
func (s *Source) check() error {
	if len(s.Brokers) == 0 {
		return errors.New("no broker is given")
	}
	if len(s.Topics) == 0 {
		return errors.New("no topic is given")
	}
	return nil
}

// topic returns the full name of a base topic.
func (s *Source) topic(base string) string {
	if s.TopicPrefix == "" {
		return base
	}
	return s.TopicPrefix + "-" + base
}

func (s *Source) all() bool { return s.Topics[0] == AllTopics }

// wants reports whether "*" includes a topic.
func (s *Source) wants(topic string) bool {
	if s.TopicPrefix != "" {
		return strings.HasPrefix(topic, s.TopicPrefix+"-")
	}
	return !strings.HasPrefix(topic, "__")
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// ValidTopic reports whether a broker accepts the name of a topic.
func ValidTopic(name string) bool { return topicName.MatchString(name) && name != "." && name != ".." }

// check fills in the defaults and returns the first problem.
func (o *Options) check() error {
	if err := o.Source.check(); err != nil {
		return err
	}
	if o.GroupID == "" {
		return errors.New("no consumer group is given")
	}
	if o.StartOffset = cmp.Or(o.StartOffset, Latest); o.StartOffset != Latest && o.StartOffset != Earliest {
		return fmt.Errorf("start offset %q is neither %q nor %q", o.StartOffset, Latest, Earliest)
	}
	// Without it, a topic created while nothing runs would start at its end and lose its first
	// events.
	if o.TopicState == nil {
		return errors.New("no topic memory is given")
	}
	if o.Handler == nil {
		return errors.New("no handler is given")
	}
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 1024)
	o.Budget = cmp.Or(o.Budget, 32<<20)
	// Negative sizes would stop every partition for good.
	if o.MaxInFlight < 0 || o.Budget < 0 || o.Budget > math.MaxInt32 {
		return fmt.Errorf("window %d and budget %d must be positive, the budget below 2 GiB", o.MaxInFlight, o.Budget)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
		least    time.Duration
	}{
		// Brokers refuse less unless group.min.session.timeout.ms is changed.
		{"session timeout", &o.SessionTimeout, 10 * time.Second, 6 * time.Second},
		// A ticker panics on zero, and tiny ones load the coordinator.
		{"commit interval", &o.CommitInterval, time.Second, 10 * time.Millisecond},
		{"recommit interval", &o.RecommitInterval, time.Hour, 10 * time.Millisecond},
		{"topic poll", &o.TopicPoll, 10 * time.Second, 10 * time.Millisecond},
		{"reset delay", &o.resetDelay, defaultResetDelay, time.Millisecond},
	} {
		if *d.value = cmp.Or(*d.value, d.fallback); *d.value < d.least {
			return fmt.Errorf("%s %s is shorter than %s", d.name, *d.value, d.least)
		}
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	return nil
}
