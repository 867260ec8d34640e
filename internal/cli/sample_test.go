package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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

func TestWrongEventFiles(t *testing.T) {
	t.Parallel()
	catalogue, dir := loadCatalogue(t), t.TempDir()
	r := &rule.Rule{EventType: "org.openedx.learning.badge.awarded.v1"}
	const class, prints = "openedx_events.learning.data.BadgeData", "webhook-dispatcher events show BADGE_AWARDED prints a sample"
	for name, file := range map[string]struct{ text, want string }{
		"list": {"[]", "write an object"},
		"half": {`{"a": `, "JSON"},
		"time": {`{"` + class + `": {}, "event_metadata": {"time": "yesterday"}}`, "invalid time"},
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
