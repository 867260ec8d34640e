package store_test

import (
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// setEnabled switches rules on and off. Only enabled and modified of the one row may change, and those only when there is something to do.
func setEnabled(t *testing.T, b *bench) {
	mustExec(t, b.admin, b.insertInto(`(id, created, modified, event, webhook_url, enabled, use_www_form_encoding)
  VALUES (7, '2023-01-31 20:28:10.976084', '2024-01-01 00:00:00', 'E', 'https://h/7', 2, 1),
    (8, '2023-01-31 20:28:10.976084', '2024-01-01 00:00:00', 'E', 'https://h/8', 0, 0)`))
	read := func() []rule.Row { return b.rows(t) }
	before := read()
	untouched := before[1]
	since := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	for _, step := range []struct {
		id     int32
		to     bool
		result string
	}{
		{7, true, "the plugin's, on, already enabled"},
		{8, false, "the plugin's, off, already disabled"}, // as they stand: 2 is true as well
		{7, false, "the plugin's, off"},
		{7, false, "the plugin's, off, already disabled"},
		{7, true, "the plugin's, on"},
		{7, true, "the plugin's, on, already enabled"},
	} {
		rows := read()
		got, err := b.rules.SetEnabled(t.Context(), b.key(step.id), step.to)
		must(t, err)
		want(t, "result", shown(got), step.result)
		after := read()
		want(t, "the other row", after[1], untouched)
		if !got.Changed {
			want(t, "the row", after[0], rows[0])
			continue
		}
		if at := after[0].Modified; at.Before(since) || !at.After(rows[0].Modified) {
			t.Errorf("modified %s, want later than %s and not before %s", at, rows[0].Modified, since)
		}
		rows[0].Enabled, rows[0].Modified = step.to, after[0].Modified
		want(t, "the row", after[0], rows[0])
	}
	want(t, "enabled", one[int](t, b.admin, "SELECT enabled FROM "+b.table()+" WHERE id = 7"), 1)
	want(t, "options", b.options(t), 0)
	_, err := b.rules.SetEnabled(t.Context(), b.key(9), true)
	noRule(t, err, b.key(9))
	b.switched(t, true, b.key(7), "adopted, on")
	row := b.row(t, b.key(7))
	for _, step := range []struct {
		to     bool
		result string
	}{{true, "adopted, on, already enabled"}, {false, "adopted, off"}, {false, "adopted, off, already disabled"}, {true, "adopted, on"}} {
		got, err := b.rules.SetEnabled(t.Context(), b.key(7), step.to)
		must(t, err)
		want(t, "result, adopted", shown(got), step.result)
		want(t, "enabled", b.option(t, b.key(7)).Enabled, step.to)
		want(t, "the row, adopted", b.row(t, b.key(7)), row)
	}
}
