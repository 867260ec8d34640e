// Package sendertest provides a sender for tests with servers on this machine.
package sendertest

import (
	"net/netip"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

// New returns a sender that may reach 127.0.0.0/8. The end of the test closes it and its
// connections, for which an httptest server that was started earlier waits.
func New(t testing.TB) *sender.Sender {
	t.Helper()
	guard, err := egress.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := egress.NewPool(egress.Options{Guard: guard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseIdleConnections)
	s, err := sender.New(sender.Options{Transport: pool.Transport(nil), Guard: guard, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
