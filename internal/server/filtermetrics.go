package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

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
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	own      prometheus.Histogram
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
