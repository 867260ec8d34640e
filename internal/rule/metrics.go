package rule

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	rules, webfilters          *prometheus.GaugeVec
	changed, unchanged, failed prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, age func() float64) *metrics {
	refreshes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "webhook_dispatcher_rule_refreshes_total",
		Help: "Readings of the rules by result: changed, unchanged, failed.",
	}, []string{"result"})
	m := &metrics{
		rules: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_rules",
			Help: "Rows of the webhook table by status: active, released, paused, disabled, foreign, faulty.",
		}, []string{"status"}),
		webfilters: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "webhook_dispatcher_webfilters",
			Help: "Rows of the webfilter table by status: active, paused (held), disabled, foreign, faulty.",
		}, []string{"status"}),
		changed:   refreshes.WithLabelValues("changed"),
		unchanged: refreshes.WithLabelValues("unchanged"),
		failed:    refreshes.WithLabelValues("failed"),
	}
	for _, status := range statuses {
		m.rules.WithLabelValues(status.String())
		if status != Released {
			m.webfilters.WithLabelValues(status.String())
		}
	}
	ageGauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "webhook_dispatcher_rules_age_seconds",
		Help: "Seconds since the rules were last read with success, 0 before the first time.",
	}, age)
	if registerer != nil {
		registerer.MustRegister(refreshes, m.rules, m.webfilters, ageGauge)
	}
	return m
}

func (m *metrics) count(s *Snapshot) {
	for _, status := range statuses {
		m.rules.WithLabelValues(status.String()).Set(float64(s.Count(status)))
		if status != Released {
			m.webfilters.WithLabelValues(status.String()).Set(float64(s.CountFilters(status)))
		}
	}
}
