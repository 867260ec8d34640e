package kafka

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// metrics have no label for the topic: "*" would leave it unbounded.
type metrics struct {
	records, bytes, generations, lost, resets, fullSeconds prometheus.Counter
	commitOK, commitFailed, commitEnded                    prometheus.Counter
	fetchErrors                                            *prometheus.CounterVec
	partitions, subscribed                                 prometheus.Gauge
}

// newMetrics registers with reg, which may be nil.
func newMetrics(reg prometheus.Registerer, lag func() float64) (*metrics, error) {
	const prefix = "webhook_dispatcher_"
	commits := metric.CounterVec(prefix+"bus_commits_total",
		"Commits by result: ok, failed (retried), ended (the generation is over; the next owner reads again).", "result")
	m := &metrics{
		records:     metric.Counter(prefix+"bus_records_total", "Records read from the bus and handed over."),
		bytes:       metric.Counter(prefix+"bus_record_bytes_total", "Bytes of these records: keys, values and headers."),
		generations: metric.Counter(prefix+"bus_generations_total", "Generations of the consumer group that this process took part in."),
		lost:        metric.Counter(prefix+"records_lost_total", "Offsets that retention deleted before they were read: lost events."),
		resets: metric.Counter(prefix+"bus_position_resets_total",
			"Positions found above the end of their log (topic created again, log truncated); reading continued at its start."),
		fullSeconds: metric.Counter(prefix+"bus_window_full_seconds_total",
			"Time for which partitions were not fetched because too many of their records were in flight."),
		commitOK:     commits.WithLabelValues("ok"),
		commitFailed: commits.WithLabelValues("failed"),
		commitEnded:  commits.WithLabelValues("ended"),
		fetchErrors:  metric.CounterVec(prefix+"bus_fetch_errors_total", "Fetches that failed, by class.", "class"),
		partitions:   metric.Gauge(prefix+"bus_partitions_assigned", "Partitions that the group has given to this process."),
		subscribed:   metric.Gauge(prefix+"bus_topics_subscribed", "Topics that this process asks the group for."),
	}
	for _, class := range errorClasses {
		m.fetchErrors.WithLabelValues(class)
	}
	lagGauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "consumer_lag_records",
		Help: "Offsets from the watermarks to the ends of the logs, summed over the assigned partitions.",
	}, lag)
	return m, metric.Register(reg, m.records, m.bytes, m.generations, m.lost, m.resets, m.fullSeconds, commits,
		m.fetchErrors, m.partitions, m.subscribed, lagGauge)
}
