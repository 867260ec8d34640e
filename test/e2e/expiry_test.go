//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestAuthenticationThatExpires has a broker that ends each connection 10 s after it was
// authenticated, as hosted brokers do after an hour. Neither replica leaves the group for that, no
// commit fails, and nothing is sent twice.
func TestAuthenticationThatExpires(t *testing.T) {
	t.Parallel()
	kafka := harness.OwnServer(t, "kafka", "--secure", "--set", "connections.max.reauth.ms=10000")
	s := harness.NewSite(t, kafka)
	s.Rule("hook")
	s.Producer.CreateTopic(harness.Registrations, 6)
	settings := func(listener int, mechanism string) []string {
		return []string{
			"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=" + kafka.AddressAt(listener), "WEBHOOK_DISPATCHER_KAFKA_SASL_MECHANISM=" + mechanism,
			"EVENT_BUS_KAFKA_API_KEY=dispatcher", "EVENT_BUS_KAFKA_API_SECRET=dispatcher-secret",
		}
	}
	ca := "WEBHOOK_DISPATCHER_KAFKA_CA_FILE=" + filepath.Join(kafka.Dir, "tls", "ca.pem")
	daemons := []*harness.Daemon{
		s.Serve(append(settings(saslPlain, "SCRAM-SHA-256"), "WEBHOOK_DISPATCHER_KAFKA_TLS=off")...),
		s.Launch(append(settings(saslTLS, "PLAIN"), ca)...),
	}
	const generations = "webhook_dispatcher_bus_generations_total"
	var before [2]float64
	for i, d := range daemons {
		d.WaitMetric("webhook_dispatcher_bus_partitions_assigned", 3, 40*time.Second)
		var err error
		if before[i], err = d.Metric(generations); err != nil {
			t.Fatal(err)
		}
	}
	traffic := s.Producer.StartTraffic(harness.Registrations, 6, 50, 1)
	<-time.After(35 * time.Second)
	events := traffic.Stop()
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	s.Delivers("hook", ids, 30*time.Second)
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	if got := s.Count("hook"); got != len(events) {
		t.Errorf("%d requests for %d events", got, len(events))
	}
	for i, d := range daemons {
		d.WaitMetric(generations, before[i], time.Second)
		d.WaitMetric(`webhook_dispatcher_bus_commits_total{result="failed"}`, 0, time.Second)
	}
}
