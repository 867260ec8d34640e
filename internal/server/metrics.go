package server

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// RegisterProcess registers what every process shows: Go runtime, process, and which build this is. It fails when the
// registerer has one of them already.
func RegisterProcess(registerer prometheus.Registerer, version, revision string) error {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "webhook_dispatcher_build_info",
		Help:        "1, with the build as labels.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	})
	build.Set(1)
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	return metric.Register(registerer, collectors.NewGoCollector(), process, build)
}
