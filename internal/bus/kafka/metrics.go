package kafka

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// metrics have no label for the topic: "*" would leave it unbounded.
type metrics struct {
	records, bytes         prometheus.Counter
	commits                *prometheus.CounterVec
	generations            prometheus.Counter
	lost, resets           prometheus.Counter
	fullSeconds            prometheus.Counter
	fetchErrors            *prometheus.CounterVec
	partitions, subscribed prometheus.Gauge
	commitOK, commitFailed prometheus.Counter
	commitEnded            prometheus.Counter
}

// newMetrics registers with reg, which may be nil.
func newMetrics(reg prometheus.Registerer, lag func() float64) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "webhook_dispatcher", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "webhook_dispatcher", Name: name, Help: help})
	}
	m := &metrics{
		records:     counter("bus_records_total", "Records read from the bus and handed over."),
		bytes:       counter("bus_record_bytes_total", "Bytes of these records: keys, values and headers."),
		generations: counter("bus_generations_total", "Generations of the consumer group that this process took part in."),
		lost: counter("records_lost_total",
			"Offsets that retention deleted before they were read: lost events."),
		resets: counter("bus_position_resets_total",
			"Positions found above the end of their log (topic created again, log truncated); reading continued at its start."),
		fullSeconds: counter("bus_window_full_seconds_total", "Time for which partitions were not fetched because too many of their records were in flight."),
		partitions:  gauge("bus_partitions_assigned", "Partitions that the group has given to this process."),
		subscribed:  gauge("bus_topics_subscribed", "Topics that this process asks the group for."),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "webhook_dispatcher", Name: "bus_commits_total",
			Help: "Commits by result: ok, failed (retried), ended (the generation is over; the next owner reads again).",
		}, []string{"result"}),
		fetchErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "webhook_dispatcher", Name: "bus_fetch_errors_total", Help: "Fetches that failed, by class.",
		}, []string{"class"}),
	}
	m.commitOK, m.commitFailed, m.commitEnded =
		m.commits.WithLabelValues("ok"), m.commits.WithLabelValues("failed"), m.commits.WithLabelValues("ended")
	for _, class := range errorClasses {
		m.fetchErrors.WithLabelValues(class)
	}
	lagGauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "webhook_dispatcher", Name: "consumer_lag_records",
		Help: "Offsets from the watermarks to the ends of the logs, summed over the assigned partitions.",
	}, lag)
	return m, metric.Register(reg, m.records, m.bytes, m.generations, m.lost, m.resets, m.fullSeconds, m.partitions, m.subscribed,
		m.commits, m.fetchErrors, lagGauge)
}
