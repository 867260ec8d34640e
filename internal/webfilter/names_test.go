package webfilter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// The golden file was compared with the constructors of openedx-filters 3.16.0.
func TestHaltsOfAllFilters(t *testing.T) {
	t.Parallel()
	names := Names()
	if len(names) != 27 {
		t.Errorf("%d filters, the plugin has 27", len(names))
	}
	var all strings.Builder
	for _, name := range names {
		if rule.FilterName(strings.ToUpper(name)) != name || Label(name) != name {
			t.Errorf("%s is known as %s", name, rule.FilterName(name))
		}
		if !Halts(name) {
			fmt.Fprintf(&all, "%s: does not halt\n", name)
			continue
		}
		for _, h := range []Halt{{Message: "m", RedirectTo: "/r", Status: 404}, {Message: "m"}} {
			fmt.Fprintf(&all, "%s: %s\n", name, text(&Outcome{Halt: &h, Data: payload.ObjectValue([]string{"x"}, make([]payload.Value, 1))}, name))
		}
	}
	golden(t, "halts.golden", all.String())
	if Halts("Unheard") || Label("Unheard") != "other" || Label("courseenrollmentstarted") != "other" {
		t.Error("a filter that the plugin does not have")
	}
}
