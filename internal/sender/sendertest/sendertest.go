// Package sendertest has a sender for tests of packages that send to servers of their own on this machine.
package sendertest

import (
	"net/netip"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

// New returns a sender that may reach 127.0.0.0/8. It is closed at the end of the test, and so are its connections: a server of
// net/http/httptest that was started before it waits for these.
func New(t testing.TB) *sender.Sender {
	t.Helper()
	guard, err := egress.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if err != nil {
		t.Fatal(err)
	}
	transport, err := egress.NewTransport(egress.Options{Guard: guard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	s, err := sender.New(sender.Options{Transport: transport, Guard: guard, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
