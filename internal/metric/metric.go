// Package metric registers metrics, one way for every package that has some.
package metric

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Register registers collectors, or nothing where registerer is nil. It fails if registerer has one
// of them already.
func Register(registerer prometheus.Registerer, collectors ...prometheus.Collector) error {
	if registerer == nil {
		return nil
	}
	for _, collector := range collectors {
		if err := registerer.Register(collector); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
