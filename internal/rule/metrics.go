package rule

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

type metrics struct {
	rules, webfilters          *prometheus.GaugeVec
	changed, unchanged, failed prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, lastRefresh func() float64) (*metrics, error) {
	refreshes := metric.CounterVec("webhook_dispatcher_rule_refreshes_total",
		"Readings of the rules by result: changed, unchanged, failed.", "result")
	m := &metrics{
		rules: metric.GaugeVec("webhook_dispatcher_rules",
			"Rows of the webhook table by status: active, released, paused, disabled, foreign, faulty.", "status"),
		webfilters: metric.GaugeVec("webhook_dispatcher_webfilters",
			"Rows of the webfilter table by status: active, paused (held), disabled, foreign, faulty.", "status"),
		changed: refreshes.WithLabelValues("changed"), unchanged: refreshes.WithLabelValues("unchanged"),
		failed: refreshes.WithLabelValues("failed"),
	}
	m.count(&Snapshot{})
	refreshed := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "webhook_dispatcher_rules_last_refresh_timestamp_seconds",
		Help: "When the rules in force were last read, as Unix time; 0 before the first reading.",
	}, lastRefresh)
	return m, metric.Register(registerer, refreshes, m.rules, m.webfilters, refreshed)
}

func (m *metrics) count(s *Snapshot) {
	for _, status := range statuses {
		m.rules.WithLabelValues(status.String()).Set(float64(s.Count(Webhooks, status)))
		if status != Released {
			m.webfilters.WithLabelValues(status.String()).Set(float64(s.Count(Webfilters, status)))
		}
	}
}
