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
	const class, prints = "openedx_events.learning.data.BadgeData", "webhook-dispatcher events show BADGE_AWARDED prints a sample"
	for name, file := range map[string]struct{ text, want string }{
		"list": {"[]", "write an object"},
		"half": {`{"a": `, "JSON"},
		"time": {`{"` + class + `": {}, "event_metadata": {"time": "yesterday"}}`, "the time is none"},
		// What is made of these would have null wherever the rule looks for data.
		"nothing":        {`{}`, `no object under "` + class + `", where BADGE_AWARDED has its data: ` + prints},
		"metadata alone": {`{"event_metadata": {"id": "x"}}`, class},
		"other data":     {`{"a.b": {}}`, class},
		"no data":        {`{"` + class + `": null}`, class},
		"another event": {
			`{"` + class + `": {}, "event_metadata": {"event_type": "org.openedx.x.v1"}}`,
			"an event of the type org.openedx.x.v1, and the rule is for " + r.EventType + ": " + prints,
		},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(file.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := testMessage(path, r, catalogue)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), file.want) {
			t.Errorf("%s: %v, want %q in it", name, err, file.want)
		}
	}
	// Of somebody's own event nobody knows what it holds.
	path := filepath.Join(dir, "own")
	if err := os.WriteFile(path, []byte(`{"a.b": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := testMessage(path, &rule.Rule{EventType: "org.example.thing.done.v1"}, catalogue); err != nil {
		t.Errorf("an event that the catalogue lacks: %v", err)
	}
	if _, err := testMessage("BADGE_AWARDE", r, catalogue); err == nil || !strings.Contains(err.Error(), "neither a file nor an event") {
		t.Errorf("no file: %v", err)
	}
}
