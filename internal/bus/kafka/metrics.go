package kafka

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
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
		records:     counter("bus_records_total", "Records taken from the bus and handed over."),
		bytes:       counter("bus_record_bytes_total", "Bytes of these records: key, value and headers."),
		generations: counter("bus_generations_total", "Generations of the consumer group that this process took part in."),
		lost: counter("records_lost_total",
			"Offsets that retention had deleted before they were read: events that nobody will get."),
		resets: counter("bus_position_resets_total",
			"Positions found above the end of their log (topic made anew, log cut), reading goes on at its start."),
		fullSeconds: counter("bus_window_full_seconds_total", "Time for which partitions were not fetched because their window was full."),
		partitions:  gauge("bus_partitions_assigned", "Partitions that the group has given to this process."),
		subscribed:  gauge("bus_topics_subscribed", "Topics that this process asks the group for."),
		commits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "webhook_dispatcher", Name: "bus_commits_total",
			Help: "Commits by result: ok, failed (tried again), ended (the generation is over; the next owner reads again).",
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
		Help: "Offsets between the watermarks and the ends of the logs, summed over the assigned partitions.",
	}, lag)
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.records, m.bytes, m.generations, m.lost, m.resets, m.fullSeconds, m.partitions, m.subscribed, m.commits, m.fetchErrors, lagGauge,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
