package sender

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// outcomes are the values of the label outcome.
var outcomes = [...]string{
	"2xx", "3xx", "4xx", "5xx",
	string(delivery.ClassDNS), string(delivery.ClassConnect), string(delivery.ClassTLS), string(delivery.ClassTimeout),
	string(delivery.ClassReset), string(delivery.ClassProtocol), string(delivery.ClassEgress), string(delivery.ClassRequest),
	string(delivery.ClassToken), string(delivery.ClassCancelled), string(delivery.ClassOther),
}

type metrics struct {
	attempts map[string]prometheus.Counter // by outcome; not changed after newMetrics
	duration prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	attempts := metric.CounterVec("webhook_dispatcher_http_requests_total",
		"Requests to endpoints by outcome: the class of the answer's status, or why there was no usable answer.", "outcome")
	m := &metrics{
		attempts: make(map[string]prometheus.Counter, len(outcomes)),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "webhook_dispatcher_http_request_duration_seconds",
			Help:    "Time from the start of a request to an endpoint until its answer was read or it failed.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60},
		}),
	}
	for _, outcome := range outcomes {
		m.attempts[outcome] = attempts.WithLabelValues(outcome)
	}
	return m, metric.Register(registerer, attempts, m.duration)
}

func (m *metrics) observe(a *delivery.Attempt) {
	counter, ok := m.attempts[outcome(a)]
	if !ok {
		counter = m.attempts[string(delivery.ClassOther)]
	}
	counter.Inc()
	m.duration.Observe(a.Duration.Seconds())
}

// outcome returns an attempt's label.
func outcome(a *delivery.Attempt) string {
	switch {
	case a.Class != "":
		return string(a.Class)
	case a.Status >= 200 && a.Status <= 599:
		return outcomes[a.Status/100-2]
	}
	return string(delivery.ClassOther)
}
