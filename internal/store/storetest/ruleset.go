package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// setEnabled switches rules on and off. Only enabled and modified of the one row may change, and those only when there is something to do.
func setEnabled(t *testing.T, b *bench) {
	mustExec(t, b.admin, `INSERT INTO openedx_webhooks_webhook (id, created, modified, event, webhook_url, enabled, use_www_form_encoding)
  VALUES (7, '2023-01-31 20:28:10.976084', '2024-01-01 00:00:00', 'E', 'https://h/7', 2, 1),
    (8, '2023-01-31 20:28:10.976084', '2024-01-01 00:00:00', 'E', 'https://h/8', 0, 0)`)
	read := func() []rule.Row {
		rows, err := b.store.Webhooks(t.Context())
		must(t, err)
		return rows
	}
	before := read()
	untouched := before[1]
	since := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	for _, step := range []struct {
		id      int32
		to      bool
		changed bool
	}{
		{7, true, false}, {8, false, false}, {9, true, false}, {9, false, false}, // as they stand: 2 is true as well
		{7, false, true}, {7, false, false}, {7, true, true}, {7, true, false},
	} {
		rows := read()
		changed, err := b.rules.SetWebhookEnabled(t.Context(), step.id, step.to)
		must(t, err)
		want(t, "changed", changed, step.changed)
		after := read()
		want(t, "the other row", after[1], untouched)
		if !step.changed {
			want(t, "the row", after[0], rows[0])
			continue
		}
		if at := after[0].Modified; at.Before(since) || !at.After(rows[0].Modified) {
			t.Errorf("modified %s, want later than %s and not before %s", at, rows[0].Modified, since)
		}
		rows[0].Enabled, rows[0].Modified = step.to, after[0].Modified
		want(t, "the row", after[0], rows[0])
	}
	want(t, "enabled", one[int](t, b.admin, "SELECT enabled FROM openedx_webhooks_webhook WHERE id = 7"), 1)
	if b.target.Real {
		_, err := b.store.SetWebhookEnabled(t.Context(), 7, false)
		if err == nil || !strings.Contains(err.Error(), "grant UPDATE on openedx_webhooks_webhook") {
			t.Errorf("with the grants of serve: got %v, want what to grant", err)
		}
	}
}
