package intake

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

type metrics struct {
	matched, unmatched, refused, untyped prometheus.Counter

	undecodable *prometheus.CounterVec // refused, by reason
}

// newMetrics registers the metrics with reg, unless that is nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	events := metric.CounterVec("webhook_dispatcher_events_total",
		"Records read, by result: matched by a rule, unmatched, undecodable, or (if all topics are read) untyped, so not an event.", "result")
	m := &metrics{
		matched: events.WithLabelValues("matched"), unmatched: events.WithLabelValues("unmatched"),
		refused: events.WithLabelValues("undecodable"), untyped: events.WithLabelValues("untyped"),
		undecodable: metric.CounterVec("webhook_dispatcher_undecodable_total",
			"Undecodable records, which are kept as rows, by reason.", "reason"),
	}
	for _, reason := range decode.Reasons() {
		m.undecodable.WithLabelValues(string(reason))
	}
	return m, metric.Register(reg, events, m.undecodable)
}
