// Package sender makes one attempt at one delivery: one request, one answer or error, one outcome.
//
// It promises that the body goes out as the bytes it is given, within one deadline over the whole exchange, and that
// nothing the endpoint answers costs more than a bounded amount of memory. An answer is complete, or cut at a limit of ours;
// one that breaks off or is still dripping at the deadline is an error, whatever its status, because its receiver may have
// broken off as well. No redirect is followed, no cookie kept, nothing decompressed.
//
// It leaves out what follows from an outcome: retries, breakers and rows. Which addresses may be reached is decided by the
// transport it is given (package egress). Signing is done by a Signer.
package sender

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
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
	// Signer signs requests; nil leaves them unsigned.
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

// Sender makes attempts. It is safe for concurrent use and holds no goroutine; the transport's idle connections are
// its owner's to close.
type Sender struct {
	options   Options
	client    *http.Client // resty's
	userAgent string
	targets   targets
	metrics   *metrics
	journal   *journal
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
		return nil, err
	}
	s := &Sender{
		options:   options,
		userAgent: "webhook-dispatcher/" + options.Version,
		metrics:   metrics,
		journal:   newJournal(options.Logger, options.Now),
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
	return s, nil
}

// Send makes attempt number (counted from 1) of d at the endpoint of r and returns what came of it. Cancelling ctx ends the attempt
// with the class cancelled. The attempt is Final when no later one can succeed until the rule or a setting changes: the rule's URL is no
// usable one, is itself an address that is not allowed, or holds credentials for a header that the signature needs.
func (s *Sender) Send(ctx context.Context, r *rule.Rule, d *delivery.Delivery, number int) delivery.Attempt {
	start := s.options.Now()
	a := delivery.Attempt{
		ID: d.ID, Kind: d.Kind, RuleID: d.RuleID, EventType: d.EventType,
		Number: number, At: start,
	}
	location, cause := s.exchange(ctx, r, d, &a)
	a.Duration = s.options.Now().Sub(start)
	s.metrics.observe(&a)
	s.journal.record(ctx, r, &a, location, cause)
	return a
}

// exchange sends the request and reads the answer into a. It returns where a redirect leads, and the error behind a.Class.
func (s *Sender) exchange(ctx context.Context, r *rule.Rule, d *delivery.Delivery, a *delivery.Attempt) (location string, cause error) {
	t := s.targets.get(r.URL, s.options.Guard)
	if t.err != nil {
		a.Class, a.Final = delivery.ClassRequest, true
		return "", t.err
	}
	if t.denied {
		a.Class, a.Final = delivery.ClassEgress, true
		return "", &egress.DeniedError{Host: t.host}
	}
	header, err := s.header(r, d, t, a.At)
	if err != nil {
		// A signer may have failed for a moment; a wrong header stays wrong.
		a.Class, a.Final = delivery.ClassRequest, errors.Is(err, errHeader) || errors.Is(err, errAuthorization)
		return "", err
	}

	exchange, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	response, err := s.client.Do(t.request(exchange, header, d.Body))
	if err != nil {
		a.Class = classify(ctx, exchange, err)
		return "", err
	}
	a.Status = response.StatusCode
	a.RetryAfter = ParseRetryAfter(response.Header.Get("Retry-After"), s.options.Now())
	if response.StatusCode < 200 {
		// 101, or digits that are no status: the connection no longer speaks HTTP.
		_ = response.Body.Close()
		a.Class = delivery.ClassProtocol
		return "", errNoStatus
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

var (
	errNoStatus = errors.New("the answer has no final status")
	errHeader   = errors.New("a header of the request has an invalid name or value")
	errSign     = errors.New("the request could not be signed")
)

// header makes the request's header. Names are in canonical form, so that no map look-up has to convert them.
func (s *Sender) header(r *rule.Rule, d *delivery.Delivery, t *target, at time.Time) (http.Header, error) {
	timestamp := at.Unix()
	id := d.ID.String()
	values := [...]string{
		d.Format.ContentType(), "text/plain", s.userAgent, id, strconv.FormatInt(timestamp, 10),
		d.Traceparent, t.authorization,
	}
	header := make(http.Header, 8) // with room for a signature
	for i, name := range [...]string{"Content-Type", "Accept", "User-Agent", "Webhook-Id", "Webhook-Timestamp"} {
		header[name] = values[i : i+1 : i+1]
	}
	// It comes from the bus: a malformed one is left out, for tracing is no reason to fail a delivery.
	if validTraceparent(d.Traceparent) {
		header["Traceparent"] = values[5:6:6]
	}
	if t.authorization != "" {
		header["Authorization"] = values[6:7:7]
	}
	if s.options.Signer == nil {
		return header, nil
	}
	if err := s.options.Signer.Sign(r, id, timestamp, d.Body, header); errors.Is(err, errAuthorization) {
		return nil, errAuthorization
	} else if err != nil {
		return nil, errSign
	}
	for name, values := range header {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, errHeader
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return nil, errHeader
			}
		}
	}
	return header, nil
}

// validTraceparent tells whether v has the form of W3C Trace Context, section 3.2: 00-<32 hex>-<16 hex>-<2 hex>.
func validTraceparent(v string) bool {
	if len(v) != 55 {
		return false
	}
	for i := range len(v) {
		switch i {
		case 2, 35, 52:
			if v[i] != '-' {
				return false
			}
		default:
			if !strings.Contains("0123456789abcdef", v[i:i+1]) {
				return false
			}
		}
	}
	return v[:2] != "ff"
}

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
