package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

func loadCatalogue(t *testing.T) *schema.Catalogue {
	t.Helper()
	c, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every event with a schema has a sample, with its datetimes spelled as the plugin spells them, the same each time; and
// what is printed can be given back as a file.
func TestEveryEventHasASample(t *testing.T) {
	t.Parallel()
	catalogue, dir := loadCatalogue(t), t.TempDir()
	samples := 0
	for _, signal := range catalogue.Signals() {
		if _, ok := catalogue.Avro(signal.Type); !ok {
			continue
		}
		samples++
		r := &rule.Rule{EventType: signal.Type}
		message, err := testMessage("", r, catalogue)
		if err != nil {
			t.Errorf("%s: %v", signal.Constant, err)
			continue
		}
		body := string(message.Body(delivery.FormatJSON))
		if !strings.HasPrefix(body, `{"`+signal.Class+`": {`) {
			t.Errorf("%s: %s", signal.Constant, body)
		}
		want := 1 // the metadata's own
		for _, path := range signal.Datetimes {
			if _, ok := lookUp(message.Data.Item(0), strings.Split(path, ".")[1:]); ok {
				want++
			}
		}
		if n := strings.Count(body, "2026-01-02 03:04:05.678901+00:00"); n < want {
			t.Errorf("%s: %d datetimes, want %d: %s", signal.Constant, n, want, body)
		}
		path := filepath.Join(dir, signal.Constant)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := testMessage(path, r, catalogue)
		if err != nil {
			t.Errorf("%s: %v", signal.Constant, err)
			continue
		}
		if got := string(again.Body(delivery.FormatJSON)); got != body {
			t.Errorf("%s: the file gives\n%s\nwant\n%s", signal.Constant, got, body)
		}
	}
	if samples < 70 {
		t.Errorf("only %d events have samples", samples)
	}
}

// lookUp follows a datetime's path.
func lookUp(v payload.Value, path []string) (payload.Value, bool) {
	for _, part := range path {
		var ok bool
		if part == "*" && v.Len() > 0 {
			v, ok = v.Item(0), true
		} else {
			v, ok = v.Get(part)
		}
		if !ok {
			return payload.Value{}, false
		}
	}
	return v, true
}

func TestWrongEventFiles(t *testing.T) {
	t.Parallel()
	catalogue, dir := loadCatalogue(t), t.TempDir()
	r := &rule.Rule{EventType: "org.openedx.learning.badge.awarded.v1"}
	for name, text := range map[string]string{
		"list": "[]", "half": `{"a": `, "time": `{"a": {}, "event_metadata": {"time": "yesterday"}}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := testMessage(path, r, catalogue); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := testMessage("BADGE_AWARDE", r, catalogue); err == nil || !strings.Contains(err.Error(), "neither a file nor an event") {
		t.Errorf("no file: %v", err)
	}
}
