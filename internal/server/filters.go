package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// maxFilterBody is the maximum size of the plugin's request in bytes.
const maxFilterBody = 1 << 20

// Filters calls the rows of a filter; see webfilter.Engine. Run returns an error only when ctx
// ends.
type Filters interface {
	Run(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error)
}

// FilterOptions configure the filter endpoint.
type FilterOptions struct {
	Filters    Filters               // required
	Tokens     []string              // accepted ones, at least one, of visible ASCII without spaces
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil: no metrics
}

// NewFilters returns the route POST /filters/v1/{filter}. It takes what the plugin sends to the URL
// of a webfilter row and answers with the combined result of all rows of the filter. The token is a
// Bearer token or the password of Basic credentials, which is what the plugin makes of a URL such
// as http://dispatcher:TOKEN@host/filters/v1/NAME; the user does not matter.
//
// The plugin reads only answers of 200. Others are 400 (body neither a JSON object nor form
// fields), 401 (unknown token; 429 after many), 405 (another method), 408 (body timed out), 413
// (over 1 MiB), 503 (cancelled) and 508 (the dispatcher's own request for a filter).
func NewFilters(options FilterOptions) (http.Handler, error) {
	if options.Filters == nil {
		return nil, errors.New("filter endpoint: Filters is nil")
	}
	guard, err := newTokenGuard(options.Tokens)
	if err != nil {
		return nil, err
	}
	metrics, err := newFilterMetrics(options.Registerer)
	if err != nil {
		return nil, fmt.Errorf("filter endpoint: %w", err)
	}
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	mux := http.NewServeMux()
	mux.Handle("POST "+rule.FilterPath+"{filter}", &filterEndpoint{
		filters: options.Filters, guard: guard, metrics: metrics, log: options.Logger.With("component", "filters"),
		refusals: rate.Sometimes{Interval: time.Minute},
	})
	return mux, nil
}

type filterEndpoint struct {
	filters  Filters
	guard    *tokenGuard
	metrics  *filterMetrics
	log      *slog.Logger
	refusals rate.Sometimes // log lines
}

// ServeHTTP answers a request of the plugin. It keeps nothing.
func (e *filterEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	name := rule.FilterName(r.PathValue("filter"))
	outcome, calling := e.serve(w, r, name)
	e.metrics.observe(name, outcome, time.Since(began), calling)
}

func (e *filterEndpoint) serve(w http.ResponseWriter, r *http.Request, name string) (outcome string, calling time.Duration) {
	if status := e.guard.check(r); status != http.StatusOK {
		return e.refuse(w, r, name, status, "unknown token"), 0
	}
	// Only authenticated clients may cost memory.
	if r.Header.Get(rule.HopHeader) != "" {
		return e.refuse(w, r, name, http.StatusLoopDetected, "loop: a dispatcher made this request for one of its webfilter rows, "+
			"whose URL leads back here"), 0
	}
	if r.ContentLength > maxFilterBody {
		return e.refuse(w, r, name, http.StatusRequestEntityTooLarge, "the body has more than 1 MiB"), 0
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFilterBody))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return e.refuse(w, r, name, http.StatusRequestEntityTooLarge, "the body has more than 1 MiB"), 0
	}
	if err != nil {
		return e.giveUp(w, http.StatusRequestTimeout, "timeout reading the body"), 0
	}
	request, err := webfilter.ParseRequest(name, r.Header.Get("Content-Type"), body)
	if err != nil {
		return e.refuse(w, r, name, http.StatusBadRequest, err.Error()), 0
	}
	came, err := e.filters.Run(r.Context(), request)
	if err != nil {
		return e.giveUp(w, http.StatusServiceUnavailable, "the request was cancelled"), 0
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(payload.AppendJSON(make([]byte, 0, 512), came.Answer(name))) // fails if the client is gone
	switch {
	case came.Halt != nil:
		outcome = filterHalted
	case came.Exceptions.Len() > 0:
		outcome = filterException
	case came.Data.Len() > 0:
		outcome = filterData
	default:
		outcome = filterEmpty
	}
	return outcome, came.Calling
}

// giveUp answers a cancelled request. A client that is still there must not mistake an empty answer
// for one that lets everything pass.
func (e *filterEndpoint) giveUp(w http.ResponseWriter, status int, why string) string {
	http.Error(w, why, status)
	return filterCancelled
}

// refuse answers with an error. why must not contain parts of the request.
func (e *filterEndpoint) refuse(w http.ResponseWriter, r *http.Request, name string, status int, why string) string {
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="webfilters"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, why, status)
	e.refusals.Do(func() {
		e.log.LogAttrs(r.Context(), slog.LevelWarn, "webfilter request refused; logged at most once a minute",
			slog.String("filter", webfilter.Label(name)), slog.Int("status", status), slog.String("reason", why))
	})
	return filterRefusals[status]
}

// Outcomes of the plugin's requests.
const (
	filterEmpty     = "empty"     // no row had an effect
	filterData      = "data"      // data, and no exception
	filterException = "exception" // an exception from a row's answer
	filterHalted    = "halted"    // a row halted
	filterCancelled = "cancelled" // the client disconnected or timed out
)

// filterRefusals are the outcomes of refused requests.
var filterRefusals = map[int]string{
	http.StatusBadRequest:            "invalid",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusTooManyRequests:       "rate_limited",
	http.StatusLoopDetected:          "loop",
}

type filterMetrics struct {
	requests      *prometheus.CounterVec
	duration, own prometheus.Histogram
}

func newFilterMetrics(registerer prometheus.Registerer) (*filterMetrics, error) {
	m := &filterMetrics{
		requests: metric.CounterVec("webhook_dispatcher_filter_requests_total",
			"Filter requests from the plugin, by filter (other: not a plugin filter) and outcome.", "filter", "outcome"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "webhook_dispatcher_filter_request_duration_seconds",
			Help:    "Duration of filter requests, from their header to the answer written.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 2.5, 5, 10},
		}),
		own: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "webhook_dispatcher_filter_overhead_seconds",
			Help:    "Duration of filter requests without the calls to endpoints; cancelled requests are left out.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0015, .002, .005, .01, .025, .1},
		}),
	}
	// So that filters without requests have a series.
	for _, name := range webfilter.Names() {
		m.requests.WithLabelValues(name, filterEmpty)
	}
	return m, metric.Register(registerer, m.requests, m.duration, m.own)
}

// observe records a request that took some time, part of it in calls. What part is unknown for a
// cancelled one.
func (m *filterMetrics) observe(filter, outcome string, took, calling time.Duration) {
	m.requests.WithLabelValues(webfilter.Label(filter), outcome).Inc()
	m.duration.Observe(took.Seconds())
	if outcome != filterCancelled {
		m.own.Observe((took - calling).Seconds())
	}
}
