package event_test

import (
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

const traceOK = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTraceparent(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		traceOK: true,
		strings.Replace(traceOK, "00-", "01-", 1):                 true,
		strings.Replace(traceOK, "00-", "ff-", 1):                 false,
		strings.ToUpper(traceOK):                                  false,
		traceOK + "-x":                                            false,
		traceOK[:54]:                                              false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01": false,
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": false,
		"": false,
	} {
		if got := event.ValidTraceparent(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
