package delivery_test

import (
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func TestRenew(t *testing.T) {
	t.Parallel()
	a, b := delivery.ID{1}, delivery.ID{2}
	one, two := delivery.Run{1}, delivery.Run{2}
	// Python: hashlib.sha256((b"\1" + bytes(15)) * 2).hexdigest()[:32]
	if got := delivery.Renew(a, one).String(); got != "msg_af8a44699e0fe2cbe8fcb03e513ef955" {
		t.Errorf("got %s", got)
	}
	seen := map[delivery.ID]bool{a: true, b: true}
	for _, id := range []delivery.ID{a, b} {
		for _, run := range []delivery.Run{one, two} {
			renewed := delivery.Renew(id, run)
			if seen[renewed] {
				t.Errorf("%s in run %x has the ID of another", id, run)
			}
			seen[renewed] = true
			if renewed != delivery.Renew(id, run) {
				t.Error("the same run gives another ID")
			}
		}
	}
}
