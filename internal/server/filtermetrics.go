package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// What came of a request of the plugin.
const (
	filterEmpty     = "empty"     // no row said anything
	filterData      = "data"      // data, and no exception
	filterException = "exception" // an exception that a row's answer names
	filterHalted    = "halted"    // a row halted
	filterCancelled = "cancelled" // whoever asked went away
)

// filterRefusals are the outcomes of requests that were refused.
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
			"Requests of the plugin for a filter by the filter's name (other: not one of the plugin's) and outcome.", "filter", "outcome"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "webhook_dispatcher_filter_request_duration_seconds",
			Help:    "Time from the header of a request of the plugin until its answer was written.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 2.5, 5, 10},
		}),
		own: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "webhook_dispatcher_filter_overhead_seconds",
			Help:    "The same without the time in which the endpoints of rows were waited for, and without requests that were given up.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0015, .002, .005, .01, .025, .1},
		}),
	}
	// Empty is there from the start, so that a filter which nobody asks for can be seen.
	for _, name := range webfilter.Names() {
		m.requests.WithLabelValues(name, filterEmpty)
	}
	return m, metric.Register(registerer, m.requests, m.duration, m.own)
}

// observe takes down a request that took some time, and waited for calls for a part of it. Of one that was given up nobody knows how long
// it has waited for a call, or for whoever asked.
func (m *filterMetrics) observe(filter, outcome string, took, calling time.Duration) {
	m.requests.WithLabelValues(webfilter.Label(filter), outcome).Inc()
	m.duration.Observe(took.Seconds())
	if outcome != filterCancelled {
		m.own.Observe((took - calling).Seconds())
	}
}
