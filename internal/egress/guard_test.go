package egress

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func newGuard(t testing.TB, allow ...string) *Guard {
	t.Helper()
	var blocks []netip.Prefix
	for block := range strings.FieldsSeq(strings.ReplaceAll(strings.Join(allow, " "), ",", " ")) {
		blocks = append(blocks, netip.MustParsePrefix(block))
	}
	g, err := NewGuard(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// Each block's first and last address are denied. The addresses just outside are as the list below
// says, which is written by hand: the file may not testify for itself.
func TestEdgesOfBlocks(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	edges := []struct {
		block         string
		before, after string // addresses next to the block, "" where there is none
		beforeOK      bool
		afterOK       bool
	}{
		{"0.0.0.0/8", "", "1.0.0.0", false, true},
		{"10.0.0.0/8", "9.255.255.255", "11.0.0.0", true, true},
		{"100.64.0.0/10", "100.63.255.255", "100.128.0.0", true, true},
		{"127.0.0.0/8", "126.255.255.255", "128.0.0.0", true, true},
		{"169.254.0.0/16", "169.253.255.255", "169.255.0.0", true, true},
		{"172.16.0.0/12", "172.15.255.255", "172.32.0.0", true, true},
		{"192.0.0.0/24", "191.255.255.255", "192.0.1.0", true, true},
		{"192.0.2.0/24", "192.0.1.255", "192.0.3.0", true, true},
		{"192.31.196.0/24", "192.31.195.255", "192.31.197.0", true, true},
		{"192.52.193.0/24", "192.52.192.255", "192.52.194.0", true, true},
		{"192.88.99.0/24", "192.88.98.255", "192.88.100.0", true, true},
		{"192.168.0.0/16", "192.167.255.255", "192.169.0.0", true, true},
		{"192.175.48.0/24", "192.175.47.255", "192.175.49.0", true, true},
		{"198.18.0.0/15", "198.17.255.255", "198.20.0.0", true, true},
		{"198.51.100.0/24", "198.51.99.255", "198.51.101.0", true, true},
		{"203.0.113.0/24", "203.0.112.255", "203.0.114.0", true, true},
		{"224.0.0.0/4", "223.255.255.255", "240.0.0.0", true, false},
		{"240.0.0.0/4", "239.255.255.255", "", false, false},
		{"168.63.129.16/32", "168.63.129.15", "168.63.129.17", true, true},
		{"100.100.100.200/32", "100.100.100.199", "100.100.100.201", false, false},
		{"::/128", "", "::1", false, false},
		{"::/96", "", "::1:0:0", false, false},
		{"64:ff9b:1::/48", "64:ff9b:0:ffff:ffff:ffff:ffff:ffff", "64:ff9b:2::", false, false},
		{"100::/64", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "100:0:0:1::", false, false},
		{"2001::/23", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::", true, true},
		{"2001:db8::/32", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", true, true},
		{"2002::/16", "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2003::", true, true},
		{"2620:4f:8000::/48", "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::", true, true},
		{"3fff::/20", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::", true, true},
		{"4000::/2", "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "8000::", true, false},
		{"5f00::/16", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "5f01::", false, false},
		{"fc00::/7", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fe00::", false, false},
		{"fe80::/10", "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::", false, false},
		{"fec0::/10", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ff00::", false, false},
		{"ff00::/8", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", false, false},
		{"fd00:ec2::254/128", "fd00:ec2::253", "fd00:ec2::255", false, false},
	}
	listed := make(map[netip.Prefix]bool)
	for _, e := range edges {
		p := netip.MustParsePrefix(e.block)
		listed[p] = true
		for _, addr := range []netip.Addr{p.Addr(), lastOf(p)} {
			if g.Allowed(addr) {
				t.Errorf("%s: %s is allowed", e.block, addr)
			}
		}
		for _, edge := range []struct {
			addr string
			ok   bool
		}{{e.before, e.beforeOK}, {e.after, e.afterOK}} {
			if edge.addr != "" && g.Allowed(netip.MustParseAddr(edge.addr)) != edge.ok {
				t.Errorf("%s: next to it, %s: allowed is %v", e.block, edge.addr, !edge.ok)
			}
		}
	}
	for _, kind := range [][]block{g.ranges.special, g.ranges.metadata} {
		for _, b := range kind {
			if g.Allowed(b.prefix.Addr()) || g.Allowed(lastOf(b.prefix)) {
				t.Errorf("an edge of %s (%s) is allowed", b.prefix, b.name)
			}
		}
	}
	for _, b := range g.ranges.special {
		if !listed[b.prefix] && b.prefix.Bits() < 64 {
			t.Errorf("%s has no edges in this test", b.prefix)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allow, addr string
		ok          bool
	}{
		{"", "8.8.8.8", true},
		{"", "2606:4700:4700::1111", true},
		{"", "::ffff:8.8.8.8", true},
		{"", "::ffff:127.0.0.1", false},
		{"", "::ffff:169.254.169.254", false},
		{"", "::127.0.0.1", false},
		{"", "::8.8.8.8", false},
		{"", "64:ff9b::8.8.8.8", true}, // how an IPv6-only network reaches IPv4
		{"", "64:ff9b::10.0.0.1", false},
		{"", "64:ff9b::169.254.169.254", false},
		{"", "64:ff9b::168.63.129.16", false},
		{"", "64:ff9b:1::8.8.8.8", false},
		{"", "2002:0808:0808::1", false},
		{"", "2001:0:808:808::1", false},
		{"", "2606:4700::5efe:10.0.0.1", false},
		{"", "2606:4700::200:5efe:127.0.0.1", false},
		{"", "2606:4700::5efe:8.8.8.8", true},
		{"", "fe80::1%eth0", false},
		{"", "::1%lo", false},
		{"", "::ffff:0:127.0.0.1", false},
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "::ffff:10.1.2.3", true},
		{"10.0.0.0/8", "11.1.2.3", true},
		{"10.0.0.0/8", "192.168.0.1", false},
		{"10.0.0.0/8", "2002:0a01:0203::1", false},
		{"2002::/16", "2002:0808:0808::1", true},
		{"2002::/16", "2002:0a01:0203::1", false},
		{"2002::/16,10.0.0.0/8", "2002:0a01:0203::1", true},
		{"2001::/32", "2001:0:808:808::f7f7:f7f7", true},  // client 8.8.8.8
		{"2001::/32", "2001:0:808:808::f5ff:fffe", false}, // client 10.0.0.1
		{"2001::/32", "2001:0:a00:1::f7f7:f7f7", false},   // server 10.0.0.1
		{"::1/128", "::1", true},
		{"fe80::/10", "fe80::1%eth0", true},
		{"fe80::/10", "fe80::a9fe:a9fe%eth0", false},
		{"0.0.0.0/0,::/0", "127.0.0.1", true},
		{"0.0.0.0/0,::/0", "fd12::1", true},
		{"0.0.0.0/0,::/0", "169.254.169.254", false},
		{"0.0.0.0/0,::/0", "::ffff:169.254.169.254", false},
		{"0.0.0.0/0,::/0", "64:ff9b::169.254.169.254", false},
		{"0.0.0.0/0,::/0", "2002:a9fe:a9fe::1", false},
		{"0.0.0.0/0,::/0", "::ffff:0:169.254.169.254", false},
		{"0.0.0.0/0,::/0", "::169.254.169.254", false},
		{"::/0", "::ffff:0:10.0.0.1", false},
		{"::/0", "::ffff:0:8.8.8.8", true},
		{"0.0.0.0/0,::/0", "fd00:ec2::254", false},
		{"169.254.0.0/16", "169.254.169.254", false},
		{"169.254.0.0/16", "169.254.1.1", true},
		{"169.254.169.254/32", "169.254.169.254", true},
		{"168.63.129.0/24", "168.63.129.16", false},
		{"168.63.129.16/32", "168.63.129.16", true},
		{"100.64.0.0/10", "100.100.100.200", false},
		{"fd00:ec2::254/128", "fd00:ec2::254", true},
	} {
		err := newGuard(t, c.allow).control(t.Context(), "tcp6", net.JoinHostPort(c.addr, "80"), nil)
		if (err == nil) != c.ok {
			t.Errorf("allow %q: %s: %v", c.allow, c.addr, err)
		}
		var denied *DeniedError
		if err != nil && !errors.As(err, &denied) {
			t.Errorf("%s: %T is no *DeniedError", c.addr, err)
		}
	}
	if newGuard(t, "0.0.0.0/0", "::/0").Allowed(netip.Addr{}) {
		t.Error("the zero address is allowed")
	}
}

func TestControlFailsClosed(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "0.0.0.0/0", "::/0")
	for _, c := range []struct {
		network, address string
		ok               bool
	}{
		{"tcp4", "127.0.0.1:80", true},
		{"tcp6", "[fe80::1%lo]:80", true},
		{"tcp", "127.0.0.1:80", false},
		{"udp4", "127.0.0.1:80", false},
		{"unix", "/run/mysqld/mysqld.sock", false},
		{"tcp4", "localhost:80", false},
		{"tcp4", "127.0.0.1", false},
		{"tcp4", "", false},
		{"tcp4", "0177.0.0.1:80", false},
	} {
		if err := g.control(t.Context(), c.network, c.address, nil); (err == nil) != c.ok {
			t.Errorf("%s %s: %v", c.network, c.address, err)
		}
	}
}

func TestLiteralDenied(t *testing.T) {
	t.Parallel()
	g := newGuard(t, "10.0.0.0/8")
	for host, want := range map[string]bool{
		"127.0.0.1":                 true,
		"::1":                       true,
		"[::1]":                     true,
		"::ffff:7f00:1":             true,
		"fe80::1%eth0":              true,
		"169.254.169.254":           true,
		"①②⑦.⓪.⓪.①":                 true, // folded by IDNA
		"127。0。0。1":                 true, // ideographic full stops
		"１２７.0.0.1":                 true, // fullwidth digits
		"10.1.2.3":                  false,
		"8.8.8.8":                   false,
		"example.org":               false,
		"localhost":                 false, // a name: the dial guard decides
		"2130706433":                false,
		"0x7f000001":                false,
		"0177.0.0.1":                false,
		"127.1":                     false,
		"127.0.0.1.":                false,
		"":                          false,
		"xn--":                      false,
		"metadata.google.internal.": false,
	} {
		if got := g.LiteralDenied(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func FuzzLiteralDenied(f *testing.F) {
	for _, host := range []string{"127.0.0.1", "①②⑦.⓪.⓪.①", "fe80::1%eth0", "[::1]", "xn--0ca", "0177.0.0.1", "::ffff:7f00:1"} {
		f.Add(host)
	}
	g := newGuard(f)
	f.Fuzz(func(t *testing.T, host string) {
		denied := g.LiteralDenied(host)
		if addr, err := netip.ParseAddr(host); err == nil && denied == g.Allowed(addr) {
			t.Errorf("%q: literal denied %v, allowed %v", host, denied, g.Allowed(addr))
		}
	})
}

func FuzzAllowed(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add(netip.MustParseAddr("64:ff9b::7f00:1").AsSlice())
	f.Add(netip.MustParseAddr("2001:0:808:808::f5ff:fffe").AsSlice())
	g := newGuard(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok || !g.Allowed(addr) {
			return
		}
		// A second opinion from the standard library.
		plain := addr.Unmap()
		if !plain.IsGlobalUnicast() || plain.IsPrivate() || plain.IsLoopback() || plain.IsMulticast() || plain.IsLinkLocalUnicast() {
			t.Errorf("%s is allowed", addr)
		}
	})
}

func TestDeniedErrorNamesSettingAndNoAddress(t *testing.T) {
	t.Parallel()
	text := (&DeniedError{Host: "hooks.example.org"}).Error()
	if !strings.Contains(text, Setting) || !strings.Contains(text, "hooks.example.org") {
		t.Error(text)
	}
}
