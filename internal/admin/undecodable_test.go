package admin_test

import (
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
)

// A reason that is refused could not be selected by; one that package decode does not have would
// select nothing.
func TestKeptReasons(t *testing.T) {
	t.Parallel()
	for _, reason := range decode.Reasons() {
		if err := (&admin.UndecodableReplay{Reason: string(reason)}).Check(); err != nil {
			t.Error(err)
		}
	}
	if err := (&admin.UndecodableReplay{Reason: "nope"}).Check(); err == nil {
		t.Error("an unknown reason was taken")
	}
}
