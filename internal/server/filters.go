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

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// maxFilterBody is how many bytes the plugin's request may have.
const maxFilterBody = 1 << 20

// Filters calls the rows of a filter; see webfilter.Engine. It returns an error only when ctx ends.
type Filters interface {
	Run(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error)
}

// FilterOptions are what the filter endpoint needs.
type FilterOptions struct {
	Filters Filters // required
	// Tokens let a request in, any of them; at least one. They are visible ASCII without spaces.
	Tokens []string
	Logger *slog.Logger // nil discards
	// Registerer gets the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
}

// NewFilters returns the route POST /filters/v1/{filter}, which takes what the plugin sends to the URL of a webfilter row and answers what
// all rows of this filter together come to. The token comes as a Bearer token, or as the password of Basic credentials, which is what the
// plugin makes of a URL such as http://dispatcher:TOKEN@host/filters/v1/NAME; the user's name does not matter.
//
// 200 is the only answer in which the plugin finds anything. The others are 400 for a body that is neither a JSON object nor form
// fields, 401 without a token that is known and 429 after many of these, 408 for a body that does not come, 413 above 1 MiB, 405 for
// another method, 503 for one that was given up, and 508 for a request that the dispatcher itself has made for a filter.
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
	refusals rate.Sometimes // to be logged; the metrics have all of them
}

// ServeHTTP answers one request of the plugin. Nothing of it is kept.
func (e *filterEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	name := rule.FilterName(r.PathValue("filter"))
	outcome, calling := e.serve(w, r, name)
	e.metrics.observe(name, outcome, time.Since(began), calling)
}

func (e *filterEndpoint) serve(w http.ResponseWriter, r *http.Request, name string) (outcome string, calling time.Duration) {
	if status := e.guard.check(r); status != http.StatusOK {
		return e.refuse(w, r, name, status, "the credentials hold no token that is known"), 0
	}
	// As of here whoever asks is known, and costs memory.
	if r.Header.Get(rule.HopHeader) != "" {
		return e.refuse(w, r, name, http.StatusLoopDetected, "the request was made by a dispatcher for one of its webfilter rows: "+
			"the URL of a row leads back here"), 0
	}
	if r.ContentLength > maxFilterBody {
		return e.refuse(w, r, name, http.StatusRequestEntityTooLarge, "the body has more than 1 MiB"), 0
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFilterBody))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return e.refuse(w, r, name, http.StatusRequestEntityTooLarge, "the body has more than 1 MiB"), 0
	}
	if err != nil {
		return e.giveUp(w, http.StatusRequestTimeout, "the body did not come in time"), 0
	}
	request, err := webfilter.ParseRequest(name, r.Header.Get("Content-Type"), body)
	if err != nil {
		return e.refuse(w, r, name, http.StatusBadRequest, err.Error()), 0
	}
	came, err := e.filters.Run(r.Context(), request)
	if err != nil {
		return e.giveUp(w, http.StatusServiceUnavailable, "the request was given up"), 0
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// The client is gone if this fails.
	_, _ = w.Write(payload.AppendJSON(make([]byte, 0, 512), came.Answer(name)))
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

// giveUp answers a request that came to nothing. Most often whoever asked has gone away; who has not must not take the empty answer that
// they would get for one that lets everything pass.
func (e *filterEndpoint) giveUp(w http.ResponseWriter, status int, why string) string {
	http.Error(w, why, status)
	return filterCancelled
}

// refuse answers with an error. Why must hold nothing of the request.
func (e *filterEndpoint) refuse(w http.ResponseWriter, r *http.Request, name string, status int, why string) string {
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="webfilters"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, why, status)
	e.refusals.Do(func() {
		e.log.LogAttrs(r.Context(), slog.LevelWarn, "a webfilter request was refused; further refusals are logged once a minute",
			slog.String("filter", webfilter.Label(name)), slog.Int("status", status), slog.String("reason", why))
	})
	return filterRefusals[status]
}
