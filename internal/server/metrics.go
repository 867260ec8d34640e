package server

import (
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
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
	for _, collector := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build,
	} {
		if err := registerer.Register(collector); err != nil {
			return fmt.Errorf("register the process's metrics: %w", err)
		}
	}
	return nil
}
