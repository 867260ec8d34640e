package stage

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

type metrics struct {
	passed, halted     prometheus.Counter
	handOffs, failures prometheus.Counter
	returned           prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	events := metric.CounterVec("webhook_dispatcher_filtered_events_total",
		"Events that completed their webfilters, by result: passed or halted.", "result")
	m := &metrics{
		passed: events.WithLabelValues("passed"), halted: events.WithLabelValues("halted"),
		handOffs: metric.Counter("webhook_dispatcher_filtered_events_handed_off_total",
			"Events stored as rows before their webfilters had answered."),
		returned: metric.Counter("webhook_dispatcher_filtered_events_returned_total",
			"Event rows returned after their webfilters because a rule was at its queue limit."),
		failures: metric.Counter("webhook_dispatcher_filtered_events_write_failures_total",
			"Failed writes of webfilter results of event rows, which are retried."),
	}
	return m, metric.Register(registerer, events, m.handOffs, m.returned, m.failures)
}
