package dispatch

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

type metrics struct {
	results  *prometheus.CounterVec
	inFlight prometheus.Gauge
	queued   prometheus.Gauge
	handOffs prometheus.Counter
	spilled  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_dispatcher_deliveries_total",
			Help: "Attempts judged, by what became of the delivery and whether it was a first try or a row.",
		}, []string{"result", "from"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_requests_in_flight", Help: "Slots in use for requests to endpoints.",
		}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_deliveries_queued", Help: "Deliveries in memory that wait for their lane.",
		}),
		handOffs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_hand_offs_total", Help: "First tries that were made rows while their request went on.",
		}),
		spilled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "webhook_dispatcher_deliveries_spilled_total",
			Help: "Deliveries made rows because their full lane held up others.",
		}),
	}
	for _, result := range []string{"delivered", "retry", "dead"} {
		for _, from := range []string{"memory", "row"} {
			m.results.WithLabelValues(result, from)
		}
	}
	if reg != nil {
		reg.MustRegister(m.results, m.inFlight, m.queued, m.handOffs, m.spilled)
	}
	return m
}

func (m *metrics) judged(v delivery.Verdict, row bool) {
	result, from := "retry", "memory"
	switch v.State {
	case delivery.Delivered:
		result = "delivered"
	case delivery.Dead:
		result = "dead"
	default:
	}
	if row {
		from = "row"
	}
	m.results.WithLabelValues(result, from).Inc()
}
