package admin

import (
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

func TestWrongEventFiles(t *testing.T) {
	t.Parallel()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Catalogue: catalogue})
	if err != nil {
		t.Fatal(err)
	}
	r := &rule.Rule{EventType: "org.openedx.learning.badge.awarded.v1"}
	const class, prints = "openedx_events.learning.data.BadgeData", "give one like its sample"
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
		_, err := a.message(r, &RuleTest{Event: name + ".json", Document: []byte(file.text)})
		if err == nil || !strings.Contains(err.Error(), name+".json") || !strings.Contains(err.Error(), file.want) {
			t.Errorf("%s: %v, want %q in it", name, err, file.want)
		}
	}
	// Of somebody's own event nobody knows what it holds.
	own := &rule.Rule{EventType: "org.example.thing.done.v1"}
	if _, err := a.message(own, &RuleTest{Event: "own.json", Document: []byte(`{"a.b": {}}`)}); err != nil {
		t.Errorf("an event that the catalogue lacks: %v", err)
	}
	if _, err := a.message(r, &RuleTest{Event: "BADGE_AWARDE"}); err == nil || !strings.Contains(err.Error(), "neither a file nor an event") {
		t.Errorf("no file: %v", err)
	}
}
