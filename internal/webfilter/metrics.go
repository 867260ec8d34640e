package webfilter

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// outcome is the class of a row's status, an error class, or why the row was not called.
type outcome string

// Why a row is not called.
const (
	outcomeHeld     outcome = "held"
	outcomeBusy     outcome = "busy"
	outcomeBreaker  outcome = "breaker_open"
	outcomeDeadline outcome = "deadline"
	outcomeOther            = outcome(delivery.ClassOther)
)

// failures say why a row gave no answer. Learners may read it: it holds no URL and no address.
var failures = map[outcome]string{
	outcome(delivery.ClassDNS):       "its host name was not found",
	outcome(delivery.ClassConnect):   "no connection",
	outcome(delivery.ClassTLS):       "no secure connection",
	outcome(delivery.ClassTimeout):   "no answer in time",
	outcome(delivery.ClassReset):     "the connection broke off",
	outcome(delivery.ClassProtocol):  "the answer cannot be used",
	outcome(delivery.ClassEgress):    "its address is not allowed",
	outcome(delivery.ClassRequest):   "the request cannot be made",
	outcome(delivery.ClassToken):     "no access token",
	outcome(delivery.ClassCancelled): "given up",
	outcomeHeld:                      "its URL or its options cannot be used",
	outcomeBusy:                      "too many requests wait for it",
	outcomeBreaker:                   "it gives no answers at the moment",
	outcomeDeadline:                  "no time was left",
	outcomeOther:                     "no answer",
}

var statusClasses = [...]outcome{"2xx", "3xx", "4xx", "5xx"}

// ofStatus returns the outcome of an answer.
func ofStatus(status int) outcome {
	if i := status/100 - 2; i >= 0 && i < len(statusClasses) {
		return statusClasses[i]
	}
	return outcomeOther
}

type metrics struct {
	calls    map[outcome]prometheus.Counter // not changed after newMetrics
	duration prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	calls := metric.CounterVec("webhook_dispatcher_filter_calls_total",
		"Webfilter calls, by outcome: status class, error class, or why the row was not called.", "outcome")
	m := &metrics{
		calls: make(map[outcome]prometheus.Counter),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "webhook_dispatcher_filter_call_duration_seconds",
			Help:    "Duration of webfilter calls.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 1.5, 2, 2.5, 5, 10},
		}),
	}
	for _, o := range slices.AppendSeq(statusClasses[:], maps.Keys(failures)) {
		m.calls[o] = calls.WithLabelValues(string(o))
	}
	return m, metric.Register(registerer, calls, m.duration)
}

func (m *metrics) count(o outcome) {
	counter, known := m.calls[o]
	if !known {
		counter = m.calls[outcomeOther]
	}
	counter.Inc()
}

func (m *metrics) called(o outcome, took time.Duration) {
	m.count(o)
	m.duration.Observe(took.Seconds())
}
