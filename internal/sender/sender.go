// Package sender makes one attempt at one delivery: one request, one answer or error, one outcome.
//
// The body is sent unchanged, within one deadline for the whole exchange, and an answer costs a
// bounded amount of memory. An answer is read to its end or to a limit of ours; one that breaks off
// earlier, or is incomplete at the deadline, is an error whatever its status, because the receiver
// may have failed as well. Redirects are not followed, cookies not kept, bodies not decompressed.
//
// A request carries the rule's headers, credentials, access token, signature and client
// certificate. Tokens are fetched over the same transport and shared by all deliveries of a client.
// If a token is needed and missing, no request is made.
//
// Retries, breakers and rows are left to others. The transport decides which addresses may be
// reached (package egress).
package sender

import (
	"bytes"
	"cmp"
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

// DefaultTimeout is the default of Options.Timeout.
const DefaultTimeout = 10 * time.Second

const (
	// maxResponse is the maximum number of body bytes read. A longer body is cut and its connection
	// closed.
	maxResponse = 64 << 10
	// keepResponse is the maximum number of them that an Attempt keeps.
	keepResponse = 4096
)

// Options of New. The zero value of each, except Transport and Version, means its default.
type Options struct {
	// Transport sends the requests; see egress.Pool. Required: net/http's default transport
	// uses proxies from the environment and reaches any address.
	Transport http.RoundTripper
	// Certified returns the transport for a client certificate; see egress.Pool. If nil, rules with
	// a certificate are not sent.
	Certified func(*tls.Certificate) http.RoundTripper
	// Guard makes an attempt Final if the URL's host is a denied address. If nil, the dialer denies
	// it, which is not Final: a name may resolve to another address next time.
	Guard *egress.Guard
	// Signings sign the requests of rules without signing options, when the body and all other
	// headers are final; none leaves them unsigned.
	Signings []rule.Signing

	Version    string                // the dispatcher's, for User-Agent; required
	Timeout    time.Duration         // of the whole exchange, reading the answer included
	Logger     *slog.Logger          // gets failures, summarised; nil discards
	Registerer prometheus.Registerer // gets the metrics; nil leaves them unregistered
	Now        func() time.Time      // the clock; nil means time.Now
}

func (o *Options) setDefaults() error {
	if o.Transport == nil {
		return errors.New("sender: Transport is nil")
	}
	if o.Version == "" || !httpguts.ValidHeaderFieldValue(o.Version) {
		return fmt.Errorf("sender: version %q is not valid in a User-Agent header", o.Version)
	}
	if o.Timeout < 0 {
		return fmt.Errorf("sender: the timeout %s is negative", o.Timeout)
	}
	o.Timeout, o.Logger = cmp.Or(o.Timeout, DefaultTimeout), cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Sender makes attempts. It is safe for concurrent use. It does not close the transport's idle
// connections.
type Sender struct {
	options   Options
	client    *http.Client // resty's
	userAgent string
	targets   targets
	tokens    *tokens
	metrics   *metrics
	attempts  *attemptLogger
	buffers   sync.Pool // of *[keepResponse]byte, to read bodies
}

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
		options: options, userAgent: "webhook-dispatcher/" + options.Version,
		metrics: metrics, attempts: newAttemptLogger(options.Logger, options.Now),
		buffers: sync.Pool{New: func() any { return new([keepResponse]byte) }},
	}
	// resty does not build the requests: it parses the URL twice and copies the header, which took
	// 5 of the 60 microseconds of CPU that a delivery costs (docs/performance.md).
	s.client = resty.New().SetTransport(keepLocation{options.Transport}).
		SetRedirectPolicy(resty.NoRedirectPolicy()).SetCookieJar(nil).GetClient()
	s.tokens = newTokens(s.client, s.userAgent, options.Now)
	return s, nil
}

// Close cancels token calls, which may outlive their attempts by some seconds, and waits for them.
// Attempts that need a token fail from then on. The sender has no other goroutines.
func (s *Sender) Close() { s.tokens.close() }

// Send makes one attempt to deliver d to the endpoint of r; number counts from 1. Cancelling ctx
// ends it with the class cancelled. The attempt is Final if no later one can succeed until the rule
// or a setting changes: the URL is unusable or its host is a denied address, or a header is invalid
// or needed twice.
func (s *Sender) Send(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) delivery.Attempt {
	a, _ := s.attempt(ctx, r, d, number)
	return a
}

// attempt makes an attempt, counts and logs it. The error is the cause of its class.
func (s *Sender) attempt(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) (delivery.Attempt, error) {
	start := s.options.Now()
	a := delivery.Attempt{ID: d.ID, Kind: d.Kind, RuleID: d.RuleID, EventType: d.EventType, Number: number, At: start}
	location, cause := s.exchange(ctx, r, d, &a, nil, 0)
	a.Duration = s.options.Now().Sub(start)
	s.metrics.observe(&a)
	s.attempts.record(ctx, r, &a, location, cause)
	return a, cause
}

// exchange sends the request and reads the beginning of the answer into a or, unless it is nil, the
// whole answer of at most limit bytes into whole. It returns the target of a redirect, and the cause
// of a.Class.
func (s *Sender) exchange(
	ctx context.Context, r *rule.Rule, d *delivery.Delivery, a *delivery.Attempt, whole *Answer, limit int,
) (location string, cause error) {
	exchange, cancel := context.WithTimeout(ctx, cmp.Or(r.Limits.Timeout, s.options.Timeout))
	defer cancel()
	t := s.targets.get(r.URL, s.options.Guard)
	response, err := s.answer(ctx, exchange, t, r, d, a)
	if err != nil {
		return "", err
	}
	if whole != nil {
		err = whole.read(response, limit)
	} else {
		a.Response, err = s.read(response)
	}
	if err != nil {
		a.Class = classify(ctx, exchange, err)
		return "", err
	}
	return t.redirect(response), nil
}

// answer sends the request and returns the answer, whose body the caller reads and closes before
// exchange ends. It sets Class and Final of a, or Status and RetryAfter.
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
		// A signer may fail temporarily; an invalid header stays invalid.
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
		// 101, or not a status: the connection no longer speaks HTTP.
		_ = response.Body.Close()
		a.Class = delivery.ClassProtocol
		return nil, errNoStatus
	}
	return response, nil
}

// token puts a token into the header and returns it, or "" if the rule needs none.
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

// Preview returns the request that Send would make of d now, and sends nothing. If Send would fetch
// an access token first, the header Authorization has a placeholder. An error's text may be shown.
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

// clientOf returns the client for the rule's requests.
func (s *Sender) clientOf(r *rule.Rule) (*http.Client, error) {
	if r.Access == nil || r.Access.Certificate == nil {
		return s.client, nil
	}
	if s.options.Certified == nil {
		return nil, errCertificate
	}
	client := *s.client
	client.Transport = keepLocation{s.options.Certified(r.Access.Certificate)}
	return &client, nil
}

const (
	errNoStatus    fault = "the answer has no final status"
	errCertificate fault = "the rule has a client certificate, which this command cannot use"
)

// read reads the body of an answer up to the limit and returns its beginning. A body within the
// limit is read to its end, so that the connection can be reused.
func (s *Sender) read(response *http.Response) ([]byte, error) {
	body := response.Body
	defer body.Close()
	if body == http.NoBody {
		return nil, nil
	}
	buf := s.buffers.Get().(*[keepResponse]byte)
	defer s.buffers.Put(buf)
	kept := 0
	var failed error
	for failed == nil && kept < len(buf) {
		var n int
		n, failed = body.Read(buf[kept:])
		kept += n
	}
	var begin []byte
	if kept > 0 {
		begin = bytes.Clone(buf[:kept])
	}
	if failed == nil && response.ContentLength > maxResponse {
		return begin, nil
	}
	for total := kept; failed == nil && total <= maxResponse; {
		var n int
		n, failed = body.Read(buf[:])
		total += n
	}
	if failed != nil && !errors.Is(failed, io.EOF) {
		return begin, failed
	}
	return begin, nil
}

// keptLocation is where keepLocation puts a Location header. It is not a valid header name.
const keptLocation = "location of a redirect"

// keepLocation renames the Location header of a redirect. http.Client would parse it, even if it
// follows no redirects, and return an error with its text if it is malformed.
type keepLocation struct{ next http.RoundTripper }

func (k keepLocation) RoundTrip(req *http.Request) (*http.Response, error) {
	response, err := k.next.RoundTrip(req)
	if err == nil && isRedirect(response.StatusCode) {
		response.Header[keptLocation] = response.Header["Location"]
		delete(response.Header, "Location")
	}
	return response, err
}

func isRedirect(status int) bool { return status >= 300 && status <= 399 }
