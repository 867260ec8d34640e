package confluent

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
)

const (
	firstBackoff = 250 * time.Millisecond // how long to wait before the registry is asked again
	lastBackoff  = 5 * time.Second
	// unknownAfter is how long the registry must keep saying that an id does not exist. One that
	// has just started may not have read its own topic yet.
	unknownAfter = 60 * time.Second
	unknownFor   = 10 * time.Second // how long an unknown id is answered from memory
	maxUnknown   = 1024             // unknown ids that are remembered
	maxAnswer    = 8 << 20          // bytes of an answer
)

// ClientOptions are the settings of a Client.
type ClientOptions struct {
	// URL is http or https; its path is kept, its user and password are used if Username is empty.
	URL                string
	Username, Password string                // sent as basic authentication, unless both are empty
	TLS                *tls.Config           // for https; nil trusts the system's roots
	Timeout            time.Duration         // bounds one request; zero means 5 s
	Transport          http.RoundTripper     // replaces the client's own, TLS included
	Logger             *slog.Logger          // may be nil
	Registerer         prometheus.Registerer // takes the metrics; may be nil
}

// Client asks a Confluent-compatible schema registry. It is safe for concurrent use.
type Client struct {
	api      *sr.Client
	http     *http.Client
	name     string // the base URL without user and password
	timeout  time.Duration
	log      *slog.Logger
	requests *prometheus.CounterVec // by outcome

	known sync.Map    // id → answer, kept for good: schemas never change
	seen  atomic.Bool // the registry has answered once

	mu      sync.Mutex
	asking  map[uint32]*question
	unknown map[uint32]unknownID
}

// answer is the final answer for an id.
type answer struct {
	schema *decode.Schema
	err    error // an *Undecodable
}

// question lets one caller at a time ask for an id.
type question struct {
	turn chan struct{} // holds one value while a caller asks

	// Guarded by Client.mu.
	users int
	away  error // why there is no answer yet
}

// unknownID remembers that the registry denies an id.
type unknownID struct {
	since   time.Time // the first denial of an unbroken streak
	last    time.Time
	settled bool // denied for long enough
}

// NewClient returns a client. It makes no request yet.
func NewClient(o ClientOptions) (*Client, error) {
	base, err := url.Parse(o.URL)
	// The error of url.Parse holds the URL, and with it the password.
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("schema registry URL: want http:// or https://, a host and perhaps a path, no query")
	}
	if base.User != nil && o.Username == "" {
		o.Username = base.User.Username()
		o.Password, _ = base.User.Password()
	}
	base.User = nil
	if o.Timeout < 0 {
		return nil, fmt.Errorf("schema registry timeout %s: must not be negative", o.Timeout)
	}
	o.Timeout, o.Logger = cmp.Or(o.Timeout, 5*time.Second), cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Transport == nil { // no proxy: the registry is next to the broker
		o.Transport = &http.Transport{
			TLSClientConfig: o.TLS, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second,
		}
	}
	requests, err := newRequestCounter(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("schema registry client: %w", err)
	}
	c := &Client{
		http: &http.Client{Transport: cappedTransport{o.Transport}}, name: base.String(), timeout: o.Timeout, log: o.Logger,
		requests: requests, asking: make(map[uint32]*question), unknown: make(map[uint32]unknownID),
	}
	opts := []sr.ClientOpt{sr.URLs(c.name), sr.HTTPClient(c.http), sr.UserAgent("webhook-dispatcher")}
	if o.Username != "" || o.Password != "" {
		opts = append(opts, sr.BasicAuth(o.Username, o.Password))
	}
	if c.api, err = sr.NewClient(opts...); err != nil {
		return nil, fmt.Errorf("schema registry client: %w", err)
	}
	return c, nil
}

// Close closes idle connections. Calls of Schema that wait end with their contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ready returns nil unless a record waits for a schema. The error holds no credentials.
func (c *Client) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, q := range c.asking {
		if q.away != nil {
			return fmt.Errorf("schema registry %s: schema %d: %w", c.name, id, q.away)
		}
	}
	return nil
}

// Reachable is Ready, but also sends a small request as long as the registry has never answered.
// Afterwards it does not: once the schemas are known, a registry that is away delays nothing.
func (c *Client) Reachable(ctx context.Context) error {
	if err := c.Ready(); err != nil || c.seen.Load() {
		return err
	}
	if err := c.probe(ctx); err != nil {
		return fmt.Errorf("schema registry %s: %w", c.name, err)
	}
	c.seen.Store(true)
	return nil
}

// Schema returns the schema with the id. Concurrent first uses of an id make one request. While the
// registry cannot be asked or does not answer as one, it waits until ctx ends.
func (c *Client) Schema(ctx context.Context, id uint32) (*decode.Schema, error) {
	if a, ok := c.known.Load(id); ok {
		return a.(answer).schema, a.(answer).err
	}
	q := c.join(id)
	defer c.leave(id, q)
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the schema registry: %w", context.Cause(ctx))
	}
	if a, ok := c.known.Load(id); ok { // the previous holder of the turn has asked
		return a.(answer).schema, a.(answer).err
	}
	return c.ask(ctx, id, q)
}

func (c *Client) join(id uint32) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.asking[id]
	if q == nil {
		q = &question{turn: make(chan struct{}, 1)}
		c.asking[id] = q
	}
	q.users++
	return q
}

func (c *Client) leave(id uint32, q *question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.users--; q.users == 0 {
		delete(c.asking, id)
	}
}

// ask requests the schema until there is an answer or ctx ends. The caller has the turn for id.
func (c *Client) ask(ctx context.Context, id uint32, q *question) (*decode.Schema, error) {
	if c.denied(id) {
		return nil, unknownSchema(id)
	}
	defer c.setAway(id, q, nil)
	for pause := firstBackoff; ; pause = min(2*pause, lastBackoff) {
		text, err := c.request(ctx, id)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for the schema registry: %w", context.Cause(ctx))
		}
		switch {
		case err == nil:
			schema, err := decode.ParseSchema(text)
			return c.settle(id, schema, err)
		case errors.Is(err, errNotAvro):
			return c.settle(id, nil, decode.NewUndecodable(decode.ReasonBadSchema, err.Error()))
		case errors.Is(err, errDenied):
			c.setAway(id, q, nil) // the registry answers
			if c.deny(id) {
				return nil, unknownSchema(id)
			}
		default:
			c.forgive(id)
			c.setAway(id, q, err)
		}
		// Replicas must not ask in step.
		if err := backoff.Sleep(ctx, pause*9/10+rand.N(pause/5)); err != nil {
			return nil, fmt.Errorf("wait for the schema registry: %w", err)
		}
	}
}

func unknownSchema(id uint32) error {
	return decode.NewUndecodable(decode.ReasonUnknownSchema, fmt.Sprintf("the schema registry has no schema %d", id))
}

func (c *Client) settle(id uint32, schema *decode.Schema, err error) (*decode.Schema, error) {
	c.forgive(id)
	c.known.Store(id, answer{schema, err})
	return schema, err
}

// denied reports whether id was recently found to be unknown.
func (c *Client) denied(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, ok := c.unknown[id]
	return ok && u.settled && time.Since(u.last) < unknownFor
}

// deny records that the registry denies id, and reports whether it has done so for long enough.
func (c *Client) deny(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	u, ok := c.unknown[id]
	if !ok || !u.settled && now.Sub(u.last) > unknownAfter { // denials far apart are not a streak
		u = unknownID{since: now}
	}
	u.last = now
	u.settled = u.settled || now.Sub(u.since) >= unknownAfter
	if !ok && len(c.unknown) >= maxUnknown {
		c.forgetOldest()
	}
	c.unknown[id] = u
	return u.settled
}

// forgetOldest drops the id denied longest ago; c.mu is held.
func (c *Client) forgetOldest() {
	delete(c.unknown, slices.MinFunc(slices.Collect(maps.Keys(c.unknown)), func(a, b uint32) int {
		return c.unknown[a].last.Compare(c.unknown[b].last)
	}))
}

func (c *Client) forgive(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unknown, id)
}

// setAway records why the question for id has no answer, nil if it needs none, and logs changes.
func (c *Client) setAway(id uint32, q *question, cause error) {
	c.mu.Lock()
	before := q.away
	q.away = cause
	c.mu.Unlock()
	switch {
	case cause != nil && (before == nil || before.Error() != cause.Error()):
		c.log.Warn("schema registry does not answer; partitions wait", "registry", c.name, "schema_id", id, "error", cause)
	case cause == nil && before != nil:
		c.log.Info("no longer waiting for the schema registry", "registry", c.name, "schema_id", id)
	}
}

// cappedTransport bounds the size of an answer: the API client reads whole bodies.
type cappedTransport struct{ http.RoundTripper }

func (t cappedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}

func (t cappedTransport) CloseIdleConnections() {
	if inner, ok := t.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		inner.CloseIdleConnections()
	}
}
