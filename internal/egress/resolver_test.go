package egress

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// fakeDNS answers over in-memory connections, so that the resolver, the dialer and the guard under
// test are the real ones.
type fakeDNS struct {
	mu      sync.Mutex
	asked   map[string]int // guarded by mu; look-ups of A by name
	answers func(name string, lookup int) []netip.Addr
}

func newResolver(t *testing.T, answers func(name string, lookup int) []netip.Addr) (*net.Resolver, *fakeDNS) {
	t.Helper()
	dns := &fakeDNS{asked: make(map[string]int), answers: answers}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		wg.Go(func() { dns.serve(server) })
		return client, nil
	}}, dns
}

func (f *fakeDNS) lookups(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[name]
}

// serve speaks DNS over TCP framing: each message after its length.
func (f *fakeDNS) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		raw := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, raw); err != nil {
			return
		}
		var query dnsmessage.Message
		if err := query.Unpack(raw); err != nil || len(query.Questions) != 1 {
			return
		}
		out, err := f.answer(query)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}

func (f *fakeDNS) answer(query dnsmessage.Message) ([]byte, error) {
	question := query.Questions[0]
	name := question.Name.String()
	f.mu.Lock()
	lookup := f.asked[name]
	if question.Type == dnsmessage.TypeA {
		f.asked[name]++
	}
	f.mu.Unlock()
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: query.Questions,
	}
	addrs := f.answers(name, lookup)
	if addrs == nil {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range addrs {
		header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET}
		switch {
		case addr.Is4() && question.Type == dnsmessage.TypeA:
			header.Type = dnsmessage.TypeA
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && question.Type == dnsmessage.TypeAAAA:
			header.Type = dnsmessage.TypeAAAA
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	return reply.Pack()
}
