package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

const (
	dialTimeout = 5 * time.Second
	// requestTimeout bounds a request. The largest fetch on a slow line must fit in.
	requestTimeout = 30 * time.Second
	clientID       = "webhook-dispatcher"
)

// mechanism returns what kafka-go authenticates with. Its errors may hold the credentials, so they
// are not passed on.
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

// cluster is the connections to the brokers. kafka-go cannot interrupt a request that is on its
// way, and a broker may have stopped answering, so close ends the connections themselves.
type cluster struct {
	source     Source
	mechanism  sasl.Mechanism
	conditions *conditions
	control    *route // for requests that are not about partitions
	life       context.Context
	cut        context.CancelFunc
}

// newCluster connects to nothing yet.
func newCluster(s Source, c *conditions) (*cluster, error) {
	m, err := mechanism(s.SASL)
	if err != nil {
		return nil, err
	}
	life, cut := context.WithCancel(context.Background())
	k := &cluster{source: s, mechanism: m, conditions: c, life: life, cut: cut}
	k.control = k.route([]string{}) // no topic: a transport polls the metadata of its topics
	return k, nil
}

func (k *cluster) close() {
	k.cut()
	k.control.close()
}

var errClosed = errors.New("the connection is no longer wanted")

// dial opens a connection that ends with the cluster's life.
func (k *cluster) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if k.life.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.life, cancel)()
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	raw, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: raw, keep: context.AfterFunc(k.life, func() { _ = raw.Close() })}, nil
}

type connection struct {
	net.Conn
	keep func() bool
}

func (c *connection) Close() error {
	c.keep()
	return c.Conn.Close()
}

// route is a client that knows the leaders of the partitions of its topics.
type route struct {
	*kafka.Client
	transport *kafka.Transport
	topics    []string
}

// route returns a client for the topics, for all topics if topics is nil. It never asks the broker
// to create a topic.
func (k *cluster) route(topics []string) *route {
	t := &kafka.Transport{
		Dial: k.dial, DialTimeout: dialTimeout, ClientID: clientID, MetadataTopics: topics, TLS: k.source.TLS, SASL: k.mechanism,
		Context: k.life,
	}
	return &route{&kafka.Client{Addr: kafka.TCP(k.source.Brokers...), Transport: steady{t}}, t, topics}
}

func (r *route) close() { r.transport.CloseIdleConnections() }

// steady sends a request again on another connection if its connection breaks. A broker closes
// connections that were idle for long, and those whose authentication has expired
// (connections.max.reauth.ms) at the next request; a new connection authenticates again. All our
// requests may be sent twice.
type steady struct{ *kafka.Transport }

// steadyTries is how often a request is sent: several idle connections may have expired together.
const steadyTries = 5

func (s steady) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	for try := 1; ; try++ {
		resp, err := s.Transport.RoundTrip(ctx, addr, req)
		if err == nil || try == steadyTries || ctx.Err() != nil || !connectionLost(err) {
			return resp, err
		}
	}
}

// connectionLost reports whether an error says that a connection broke, rather than that none could
// be opened.
func connectionLost(err error) bool {
	broke := []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed}
	return slices.ContainsFunc(broke, func(target error) bool { return errors.Is(err, target) })
}

// request sends a message in a version of our choice. kafka-go takes the newest that it and the
// broker know, which fails for group requests: it encodes flexible versions wrongly (JoinGroup 6,
// SyncGroup 4). It also answers metadata requests from a cache. Both are avoided by a message that
// exchanges its own bytes.
type request struct {
	protocol.Message
	newest  int16
	version int16
}

// Required implements protocol.RawExchanger. common are the newest versions that kafka-go and the
// broker both know.
func (r *request) Required(common map[protocol.ApiKey]int16) bool {
	r.version = min(common[r.ApiKey()], r.newest)
	return true
}

// RawExchange implements protocol.RawExchanger.
func (r *request) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	resp, err := protocol.RoundTrip(rw, r.version, correlation, clientID, r.Message)
	return &answer{resp}, err
}

// answer hides a response from kafka-go, which would take it for the answer to a request of its
// own.
type answer struct{ protocol.Message }

// correlation identifies a request on its connection, which carries one at a time.
const correlation = 1

// groupRequest is a request to the coordinator of a group.
type groupRequest struct {
	request
	group string
}

// Group makes kafka-go look for the coordinator.
func (r *groupRequest) Group() string { return r.group }

// ask sends a request or a groupRequest, whose answer is an A.
func ask[A protocol.Message](ctx context.Context, r *route, patience time.Duration, req protocol.Message) (a A, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := r.Transport.RoundTrip(ctx, r.Addr, req)
	if err != nil {
		return a, err
	}
	return resp.(*answer).Message.(A), nil
}

// codeOf returns the error that a code in an answer stands for; nil for none.
func codeOf(code int16) error {
	if code == 0 {
		return nil
	}
	return kafka.Error(code)
}
