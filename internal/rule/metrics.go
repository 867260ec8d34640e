package rule

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	rules                      *prometheus.GaugeVec
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
		changed:   refreshes.WithLabelValues("changed"),
		unchanged: refreshes.WithLabelValues("unchanged"),
		failed:    refreshes.WithLabelValues("failed"),
	}
	for _, status := range statuses {
		m.rules.WithLabelValues(status.String())
	}
	ageGauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "webhook_dispatcher_rules_age_seconds",
		Help: "Seconds since the rules were last read with success, 0 before the first time.",
	}, age)
	if registerer != nil {
		registerer.MustRegister(refreshes, m.rules, ageGauge)
	}
	return m
}

func (m *metrics) count(s *Snapshot) {
	for _, status := range statuses {
		m.rules.WithLabelValues(status.String()).Set(float64(s.Count(status)))
	}
}
