package main

import (
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// startSandbox starts one without a terminal.
func startSandbox(t *testing.T) *sandbox {
	t.Helper()
	s, err := start(t.Context(), newTerminal(io.Discard, false), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// addresses returns what the sandbox listens on.
func (s *sandbox) addresses() []string {
	return append(s.broker.Addrs(), strings.TrimPrefix(s.registry.URL(), "http://"), s.database.Addr(),
		s.receiver.Addr().String(), s.daemon.Addr().String())
}

func TestListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	all := s.addresses()
	if len(all) != 5 {
		t.Errorf("%d addresses: %v", len(all), all)
	}
	for _, text := range all {
		addr, err := netip.ParseAddrPort(text)
		if err != nil || addr.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
			t.Errorf("listens on %q", text)
		}
	}
}

// The broker's memory is trimmed up to the committed positions, and the daemon goes on.
func TestTrim(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	const full = 6 // the message that is published, of a rule that takes everything at once
	topic := s.messages[full].Topic
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for round := range int64(3) {
		if err := s.publishOne(t.Context(), full); err != nil {
			t.Fatal(err)
		}
		for at := int64(-1); at <= round; <-tick.C {
			at, _ = s.broker.Committed(t.Context(), s.group, topic, 0) // an error means that the group is not there yet
		}
		if err := s.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := await(t.Context(), s, s.ledger.settled()); err != nil {
		t.Error(err)
	}
}
