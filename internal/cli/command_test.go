package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

// A duration in a log must say its unit, in either format: as JSON has them, 10 s would be 10000000000.
func TestLogsDurationsWithUnit(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": `"wait":"10s"`, "text": "wait=10s"} {
		var stderr bytes.Buffer
		code := Run(t.Context(), []string{"serve", "--log-format", format}, &Process{
			Environ: []string{
				"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=kafka:9092", "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=http://registry:8081",
				"WEBHOOK_DISPATCHER_TOPICS=t", "WEBHOOK_DISPATCHER_MYSQL_DSN=mysql://u:p@mysql/openedx",
			},
			Stdout: io.Discard, Stderr: &stderr,
			Serve: func(ctx context.Context, _ *config.Config, log *slog.Logger) error {
				log.InfoContext(ctx, "waiting", "wait", 10*time.Second)
				return nil
			},
		})
		if code != ExitGood || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, and no %s in\n%s", format, code, want, stderr.String())
		}
	}
}
