package server

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

// RegisterProcess registers metrics of the Go runtime, the process and the build.
func RegisterProcess(registerer prometheus.Registerer, version, revision string) error {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "webhook_dispatcher_build_info",
		Help:        "Always 1; the labels are the build.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	})
	build.Set(1)
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	return metric.Register(registerer, collectors.NewGoCollector(), process, build)
}
