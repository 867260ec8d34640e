// Package sender makes one attempt at one delivery: one request, one answer or error, one outcome.
//
// It promises that the body goes out as the bytes it is given, within one deadline over the whole exchange, and that
// nothing the endpoint answers costs more than a bounded amount of memory. An answer is complete, or cut at a limit of ours;
// one that breaks off or is still dripping at the deadline is an error, whatever its status, because its receiver may have
// broken off as well. No redirect is followed, no cookie kept, nothing decompressed.
//
// A request carries what the rule's access says: headers, credentials, an access token, a signature, a client certificate. Tokens are
// got over the same transport and kept for all deliveries of a client. Without the token that it needs, no request is made.
//
// It leaves out what follows from an outcome: retries, breakers and rows. Which addresses may be reached is decided by the
// transport it is given (package egress).
package sender

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-resty/resty/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http/httpguts"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Defaults of Options.
const (
	DefaultTimeout      = 10 * time.Second
	DefaultMaxResponse  = 64 << 10
	DefaultKeepResponse = 4096
)

// Signer adds the headers that prove to a receiver who sent a request. It is called for each attempt, when the body and all other
// headers are final; id and timestamp are the values of the webhook-id and webhook-timestamp headers. It sets headers and changes
// nothing else. An error ends the attempt with the class request; its text is not logged, since it may hold a secret. NewSigner makes one.
type Signer interface {
	Sign(r *rule.Rule, id string, timestamp int64, body []byte, header http.Header) error
}

// Options of New. The zero value of each but Transport and Version means its default.
type Options struct {
	// Transport sends the requests; see egress.NewTransport. Required: net/http's own would follow the environment's
	// proxies and reach any address.
	Transport http.RoundTripper
	// Certified returns what sends requests with a client certificate; see egress.Pool. Nil: rules that have one are not sent.
	Certified func(*tls.Certificate) http.RoundTripper
	// Guard makes an attempt at a URL that is itself a denied address Final. Nil leaves such a URL to the dialer, whose denial
	// is not: a name may resolve otherwise the next time.
	Guard *egress.Guard
	// Version is ours, for User-Agent. Required.
	Version string
	// Timeout bounds the whole exchange, reading the answer included. 10 s by default.
	Timeout time.Duration
	// MaxResponse is how many bytes of an answer's body are read, at most: 64 KiB by default. A longer one is
	// cut, and its connection closed.
	MaxResponse int
	// KeepResponse is how many of them an Attempt keeps, at most: 4096 by default.
	KeepResponse int
	// Signer signs the requests of rules that say nothing about signing; nil leaves them unsigned.
	Signer Signer
	// Logger gets failures, summarised; nil discards.
	Logger *slog.Logger
	// Registerer gets the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o *Options) setDefaults() error {
	if o.Transport == nil {
		return errors.New("sender: Transport is nil")
	}
	// An invalid header value would make net/http refuse every request.
	if o.Version == "" || !httpguts.ValidHeaderFieldValue(o.Version) {
		return fmt.Errorf("sender: version %q cannot stand in a User-Agent header", o.Version)
	}
	// A negative timeout would fail every attempt at once, a negative size panic in make.
	if o.Timeout < 0 || o.MaxResponse < 0 || o.KeepResponse < 0 {
		return errors.New("sender: a limit is negative")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxResponse == 0 {
		o.MaxResponse = DefaultMaxResponse
	}
	if o.KeepResponse == 0 {
		o.KeepResponse = DefaultKeepResponse
	}
	o.KeepResponse = min(o.KeepResponse, o.MaxResponse)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Sender makes attempts. It is safe for concurrent use. The transport's idle connections are its owner's to close.
type Sender struct {
	options   Options
	client    *http.Client // resty's
	userAgent string
	targets   targets
	tokens    *tokens
	metrics   *metrics
	attempts  *attemptLogger
	buffers   sync.Pool // of *[]byte, each max(KeepResponse, readSize) long
}

// readSize is the least that a body is read with at a time.
const readSize = 4096

// New returns a sender.
func New(options Options) (*Sender, error) {
	if err := options.setDefaults(); err != nil {
		return nil, err
	}
	metrics, err := newMetrics(options.Registerer)
	if err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	s := &Sender{
		options:   options,
		userAgent: "webhook-dispatcher/" + options.Version,
		metrics:   metrics,
		attempts:  newAttemptLogger(options.Logger, options.Now),
	}
	size := max(options.KeepResponse, readSize)
	s.buffers.New = func() any { buf := make([]byte, size); return &buf }
	// Deliveries go through resty's client, but their requests are not built by resty: that parses the URL twice and copies the header,
	// which took 5 of the 60 microseconds of CPU that a delivery costs (docs/performance.md).
	s.client = resty.New().
		SetTransport(&keepLocation{options.Transport}).
		// Never reached while keepLocation hides where a redirect leads; here in case that changes.
		SetRedirectPolicy(resty.RedirectPolicyFunc(func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse })).
		SetCookieJar(nil).GetClient()
	s.tokens = newTokens(s.client, s.userAgent, options.Now)
	return s, nil
}

// Close ends token calls, which may outlive the attempts that need them by some seconds, and waits for their end. What needs a token fails
// from then on. The sender holds no other goroutine.
func (s *Sender) Close() { s.tokens.close() }

// Send makes attempt number (counted from 1) of d at the endpoint of r and returns what came of it. Cancelling ctx ends the attempt
// with the class cancelled. The attempt is Final when no later one can succeed until the rule or a setting changes: the rule's URL is no
// usable one or is itself an address that is not allowed, or a header of the rule cannot be sent or is needed for two things.
func (s *Sender) Send(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) delivery.Attempt {
	a, _ := s.attempt(ctx, r, d, number)
	return a
}

// attempt makes an attempt, counts and logs it. The error is what stands behind its class.
func (s *Sender) attempt(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) (delivery.Attempt, error) {
	start := s.options.Now()
	a := delivery.Attempt{
		ID: d.ID, Kind: d.Kind, RuleID: d.RuleID, EventType: d.EventType,
		Number: number, At: start,
	}
	location, cause := s.exchange(ctx, r, d, &a)
	a.Duration = s.options.Now().Sub(start)
	s.metrics.observe(&a)
	s.attempts.record(ctx, r, &a, location, cause)
	return a, cause
}

// exchange sends the request and reads the answer into a. It returns where a redirect leads, and the error behind a.Class.
func (s *Sender) exchange(ctx context.Context, r *rule.Rule, d *delivery.Delivery, a *delivery.Attempt) (location string, cause error) {
	exchange, cancel := context.WithTimeout(ctx, s.timeout(r))
	defer cancel()
	t := s.targets.get(r.URL, s.options.Guard)
	response, err := s.answer(ctx, exchange, t, r, d, a)
	if err != nil {
		return "", err
	}
	if a.Response, err = s.read(response); err != nil {
		a.Class = classify(ctx, exchange, err)
		return "", err
	}
	if response.StatusCode <= 399 && response.StatusCode >= 300 {
		location = t.redirect(response.Header.Get(keptLocation))
	}
	return location, nil
}

// answer sends the request and returns the answer, whose body the caller reads and closes while exchange lasts. Of a it sets Class and
// Final, or Status and RetryAfter.
func (s *Sender) answer(
	ctx, exchange context.Context, t *target, r *rule.Rule, d *delivery.Delivery, a *delivery.Attempt,
) (*http.Response, error) {
	if t.err != nil {
		a.Class, a.Final = delivery.ClassRequest, true
		return nil, t.err
	}
	if t.denied {
		a.Class, a.Final = delivery.ClassEgress, true
		return nil, &egress.DeniedError{Host: t.host}
	}
	header, err := s.header(r, d, t, a.At)
	if err != nil {
		// A signer may have failed for a moment; a wrong header stays wrong.
		a.Class, a.Final = delivery.ClassRequest, errors.Is(err, errHeader) || errors.Is(err, errAuthorization)
		return nil, err
	}
	client, err := s.clientOf(r)
	if err != nil {
		a.Class = delivery.ClassRequest
		return nil, err
	}
	token, err := s.token(exchange, r, header)
	if err != nil {
		a.Class = classifyToken(ctx, err)
		return nil, err
	}
	response, err := client.Do(t.request(exchange, header, d.Body))
	if err != nil {
		a.Class = classify(ctx, exchange, err)
		return nil, err
	}
	if response.StatusCode == http.StatusUnauthorized && token != "" {
		s.tokens.refused(r.Access.OAuth2, token)
	}
	a.Status = response.StatusCode
	a.RetryAfter = ParseRetryAfter(response.Header.Get("Retry-After"), s.options.Now())
	if response.StatusCode < 200 {
		// 101, or digits that are no status: the connection no longer speaks HTTP.
		_ = response.Body.Close()
		a.Class = delivery.ClassProtocol
		return nil, errNoStatus
	}
	return response, nil
}

// token puts a token into the header and returns it, "" where the rule needs none.
func (s *Sender) token(ctx context.Context, r *rule.Rule, header http.Header) (string, error) {
	if r.Access == nil || r.Access.OAuth2 == nil {
		return "", nil
	}
	token, err := s.tokens.get(ctx, r.Access.OAuth2)
	if err == nil {
		header["Authorization"] = []string{"Bearer " + token}
	}
	return token, err
}

// Preview returns the request that Send would make of d now, and sends nothing. Where Send would ask for an access token first, the
// header Authorization says so in the token's place. An error's text may be shown.
func (s *Sender) Preview(ctx context.Context, r *rule.Rule, d *delivery.Delivery) (*http.Request, error) {
	t := s.targets.get(r.URL, s.options.Guard)
	if t.err != nil {
		return nil, t.err
	}
	header, err := s.header(r, d, t, s.options.Now())
	if err != nil {
		return nil, err
	}
	return t.request(ctx, header, d.Body), nil
}

// timeout returns how long an exchange with the rule's endpoint may take.
func (s *Sender) timeout(r *rule.Rule) time.Duration {
	if r.Limits.Timeout > 0 {
		return r.Limits.Timeout
	}
	return s.options.Timeout
}

// clientOf returns what sends the rule's requests.
func (s *Sender) clientOf(r *rule.Rule) (*http.Client, error) {
	if r.Access == nil || r.Access.Certificate == nil {
		return s.client, nil
	}
	if s.options.Certified == nil {
		return nil, errCertificate
	}
	client := *s.client
	client.Transport = &keepLocation{s.options.Certified(r.Access.Certificate)}
	return &client, nil
}

var (
	errNoStatus    = errors.New("the answer has no final status")
	errCertificate = errors.New("the rule has a client certificate, and nothing here can show one")
)

// read reads the body of an answer up to the limit and returns its beginning. A body that ends within the limit is read to its
// end, so that the connection can be used again; of a longer one the rest is not waited for.
func (s *Sender) read(response *http.Response) ([]byte, error) {
	body := response.Body
	defer body.Close()
	if body == http.NoBody {
		return nil, nil
	}
	pooled := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(pooled)
	buf := *pooled

	kept := 0
	var failed error
	for failed == nil && kept < s.options.KeepResponse {
		var n int
		n, failed = body.Read(buf[kept:s.options.KeepResponse])
		kept += n
	}
	var begin []byte
	if kept > 0 {
		begin = bytes.Clone(buf[:kept])
	}
	if failed == nil && response.ContentLength > int64(s.options.MaxResponse) {
		return begin, nil
	}
	for total := kept; failed == nil && total <= s.options.MaxResponse; {
		var n int
		n, failed = body.Read(buf)
		total += n
	}
	if failed != nil && !errors.Is(failed, io.EOF) {
		return begin, failed
	}
	return begin, nil
}

// keptLocation is where keepLocation puts a Location header. No header on the wire can have this name.
const keptLocation = "location of a redirect"

// keepLocation renames the Location header of a redirect. http.Client parses it before it asks CheckRedirect, so that
// a malformed one would turn an answer into an error, with its text inside.
type keepLocation struct{ next http.RoundTripper }

func (k *keepLocation) RoundTrip(req *http.Request) (*http.Response, error) {
	response, err := k.next.RoundTrip(req)
	if err != nil || response.StatusCode < 300 || response.StatusCode > 399 {
		return response, err
	}
	if location, ok := response.Header["Location"]; ok {
		delete(response.Header, "Location")
		response.Header[keptLocation] = location
	}
	return response, nil
}
