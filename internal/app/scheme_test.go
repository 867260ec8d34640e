package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// A rule whose options need the header in which the settings' scheme signs is held: its deliveries
// wait as rows, where they would all be dead otherwise, and the log says what to do.
func TestRuleAtOddsWithTheScheme(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.noSecrets(canary + "-sync")
	f := w.load("COURSE_ENROLLMENT_CREATED__full")
	rec := w.receiver(nil)
	odd, err := w.store.AddWebhook(t.Context(), rule.Row{Event: f.Event, URL: rec.URL + "/odd", Enabled: true},
		func(id int32, _ time.Time) (*rule.Option, error) {
			return &rule.Option{Key: rule.Key{Table: rule.Webhooks, ID: id}, Enabled: true, Document: `{"headers":{"Authorization":"Token t"}}`}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	w.rule(f.Event, rec.URL+"/plain", false)
	w.publish(f.message(0, "one"))
	w.start(func(cfg *config.Config) {
		cfg.SigningScheme, cfg.SigningSecret = "sig-hmac-sha256", config.Secret(canary+"-sync")
	})
	if call := rec.wait(t, 1)[0]; call.Path != "/plain" {
		t.Errorf("%s was called", call.Path)
	}
	wait(t, "the delivery to wait as a row", func() (bool, string) {
		rows := w.rows()
		return len(rows) == 1 && rows[0].Rule == odd && delivery.State(rows[0].State) == delivery.Pending, fmt.Sprintf("%+v", rows)
	})
	line := w.log.find("rule is held back")
	if !strings.Contains(line, fmt.Sprintf(`"rule_id":%d`, odd)) || !strings.Contains(line, "--scheme none") {
		t.Errorf("the log does not say what to do: %q", line)
	}
}
