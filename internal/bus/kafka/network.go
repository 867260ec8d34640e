package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

const (
	dialTimeout = 5 * time.Second
	// requestTimeout bounds a request to a broker that has stopped answering. A fetch of the largest size on a slow line
	// has to fit in.
	requestTimeout = 30 * time.Second
	clientID       = "webhook-dispatcher"
)

// mechanism builds what kafka-go authenticates with. Its errors may hold the credentials, so they are not passed on.
func mechanism(s *SASL) (sasl.Mechanism, error) {
	if s == nil {
		return nil, nil
	}
	if s.Username == "" || s.Password == "" {
		return nil, errors.New("SASL needs a username and a password")
	}
	var algorithm scram.Algorithm
	switch strings.ToUpper(s.Mechanism) {
	case "PLAIN":
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case "SCRAM-SHA-256":
		algorithm = scram.SHA256
	case "SCRAM-SHA-512":
		algorithm = scram.SHA512
	default:
		return nil, fmt.Errorf("SASL mechanism %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", s.Mechanism)
	}
	m, err := scram.Mechanism(algorithm, s.Username, s.Password)
	if err != nil {
		return nil, errors.New("the SASL username or password holds characters that SCRAM does not allow")
	}
	return m, nil
}

// connections is every connection that one subscription has opened. kafka-go cannot interrupt a request that is on its
// way (a JoinGroup may take half a minute, a broker may have stopped answering): closing what lies under it can.
type connections struct {
	dialer net.Dialer

	mu   sync.Mutex // guards what follows
	open map[*connection]struct{}
	shut bool
}

func newConnections() *connections {
	return &connections{dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}, open: map[*connection]struct{}{}}
}

type connection struct {
	net.Conn
	set *connections
}

func (c *connection) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

var errShut = errors.New("the subscription has ended")

func (s *connections) dial(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := s.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: raw, set: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		_ = raw.Close()
		return nil, errShut
	}
	s.open[c] = struct{}{}
	return c, nil
}

// cut closes what is open now; shut also keeps anything new from being opened.
func (s *connections) cut(shut bool) {
	s.mu.Lock()
	s.shut = s.shut || shut
	open := make([]*connection, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// transport returns a transport that routes by the metadata of the named topics, all topics if there is none. It never asks
// the broker to create a topic.
func (c *Consumer) transport(conns *connections, topics []string) *kafka.Transport {
	return &kafka.Transport{
		Dial: conns.dial, DialTimeout: dialTimeout, ClientID: clientID, MetadataTopics: topics, TLS: c.options.TLS, SASL: c.mechanism,
	}
}

func (c *Consumer) dialer(conns *connections) *kafka.Dialer {
	return &kafka.Dialer{
		DialFunc: conns.dial, Timeout: dialTimeout, ClientID: clientID, TLS: c.options.TLS, SASLMechanism: c.mechanism,
	}
}

func (c *Consumer) addr() net.Addr { return kafka.TCP(c.options.Brokers...) }
