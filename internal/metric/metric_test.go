package metric_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/metric"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "attempts_total", Help: "Attempts."})
	registry := prometheus.NewRegistry()
	if err := metric.Register(registry, counter); err != nil {
		t.Fatal(err)
	}
	if families, err := registry.Gather(); err != nil || len(families) != 1 {
		t.Errorf("gathered %d families, %v, want the counter's", len(families), err)
	}
	if err := metric.Register(registry, counter); err == nil || !strings.Contains(err.Error(), "register metrics") {
		t.Errorf("registered twice: %v, want an error", err)
	}
	if err := metric.Register(nil, counter); err != nil {
		t.Errorf("nil registerer: %v", err)
	}
}
