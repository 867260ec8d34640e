// Package egress is the HTTP transport of everything that this system sends: a guard on the address that is dialled, and
// limits on what a hostile or broken endpoint can cost. A Pool has one for each client certificate, all with the same guard.
//
// It promises that no TCP connection is opened to an address that is neither public unicast nor allowed by the
// operator. The check runs on each connect, with the address that the kernel is about to be given: after name
// resolution, for every candidate of a name, whatever the spelling in the URL. A name that resolves to a public address when
// it is looked at and to a private one when it is dialled gains nothing.
//
// It leaves out what a request says and what an answer means, and it knows no deliveries. Networks that translate IPv4
// under a prefix of their own (NAT64 other than 64:ff9b::/96) are not known to it: an operator of such a network has to
// keep translated private addresses from being routed.
package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/net/idna"
)

// Setting is the name of the setting that widens what may be reached.
const Setting = "WEBHOOK_DISPATCHER_EGRESS_ALLOW"

// DeniedError says that an address may not be reached. It carries the host as the URL gave it and never the address
// that the host resolved to: that would tell whoever wrote the URL about the inside of the network.
type DeniedError struct {
	// Host is the host of the URL, without port; empty where only an address was checked.
	Host string
}

// Error names the host and the setting.
func (e *DeniedError) Error() string {
	what := "the address"
	if e.Host != "" {
		what = fmt.Sprintf("host %q", e.Host)
	}
	return "egress denied: " + what + " is not at an allowed public address; if it is meant to be reached, add its CIDR block to " +
		Setting + " (a metadata address needs a /32 or /128 of its own)"
}

// Guard decides which addresses may be reached. It is immutable and safe for concurrent use.
//
// An address is allowed when it is public unicast, or when a block of the allow list holds it. A cloud's metadata address,
// public or not, is allowed only by a block that is exactly this address, so that an operator who allows
// 169.254.0.0/16 or 0.0.0.0/0 does not hand out credentials. An IPv6 address that carries an IPv4 address (6to4, Teredo,
// NAT64, SIIT, ISATAP, IPv4-compatible) is allowed only when the IPv4 address is allowed as well; an IPv4-mapped one is the IPv4 address.
type Guard struct {
	ranges *ranges
	allow  []netip.Prefix
	exact  map[netip.Addr]bool // allow blocks that are a single address
}

// NewGuard returns a guard that allows the given blocks besides public addresses. It fails on a block that does not mean what it
// says (IPv4 written as IPv6, bits behind the prefix), and on a fault in the embedded ranges.
func NewGuard(allow []netip.Prefix) (*Guard, error) {
	all, err := parseRanges(rangesFile)
	if err != nil {
		return nil, err
	}
	g := &Guard{ranges: all, exact: make(map[netip.Addr]bool)}
	for _, prefix := range allow {
		if err := checkPrefix(prefix); err != nil {
			return nil, fmt.Errorf("%s: %w", Setting, err)
		}
		g.allow = append(g.allow, prefix)
		if prefix.IsSingleIP() {
			g.exact[prefix.Addr()] = true
		}
	}
	return g, nil
}

// Check returns nil when addr may be reached and a *DeniedError otherwise. A zone is ignored; an invalid address is denied.
func (g *Guard) Check(addr netip.Addr) error {
	if g.Allowed(addr) {
		return nil
	}
	return &DeniedError{}
}

// Allowed tells whether addr may be reached.
func (g *Guard) Allowed(addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = addr.WithZone("").Unmap()
	if !g.allowedAlone(addr) {
		return false
	}
	for _, inner := range embedded(addr) {
		if !g.allowedAlone(inner) {
			return false
		}
	}
	return true
}

// allowedAlone judges an address without a look at what it carries.
func (g *Guard) allowedAlone(addr netip.Addr) bool {
	if holds(g.ranges.metadata, addr) {
		return g.exact[addr]
	}
	for _, prefix := range g.allow {
		if prefix.Contains(addr) {
			return true
		}
	}
	return holds(g.ranges.public, addr) && !holds(g.ranges.special, addr)
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	teredo    = netip.MustParsePrefix("2001::/32")
	compat    = netip.MustParsePrefix("::/96")
	translate = netip.MustParsePrefix("::ffff:0:0:0/96")
)

// embedded returns the IPv4 addresses that an IPv6 address carries and that some router or host on the way may take
// for the destination.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	raw := addr.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(raw[i : i+4])) }
	switch {
	case nat64.Contains(addr), translate.Contains(addr): // RFC 6052, RFC 7915
		return []netip.Addr{at(12)}
	case sixToFour.Contains(addr): // RFC 3056
		return []netip.Addr{at(2)}
	case teredo.Contains(addr): // RFC 4380: the server, and the client with its bits inverted
		client := binary.BigEndian.AppendUint32(nil, ^binary.BigEndian.Uint32(raw[12:]))
		return []netip.Addr{at(4), netip.AddrFrom4([4]byte(client))}
	case compat.Contains(addr) && !addr.IsUnspecified() && !addr.IsLoopback(): // RFC 4291
		return []netip.Addr{at(12)}
	case raw[8]&^2 == 0 && raw[9] == 0 && raw[10] == 0x5e && raw[11] == 0xfe: // ISATAP, RFC 5214
		return []netip.Addr{at(12)}
	}
	return nil
}

// LiteralDenied tells whether host, as a URL's Hostname gives it, is itself an address that may not be reached, so that no
// change in DNS can make it reachable. Digits in any Unicode form count, as the HTTP client folds them. Short, decimal,
// octal and hexadecimal spellings of IPv4 are names to Go, not addresses: they are resolved and then meet the dial guard.
func (g *Guard) LiteralDenied(host string) bool {
	addr, ok := literal(host)
	return ok && !g.Allowed(addr)
}

// literal returns the address that host spells, read as net/http and the dialer read it.
func literal(host string) (netip.Addr, bool) {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, true
	}
	// net/http maps a name that is not ASCII before it dials; ①②⑦.⓪.⓪.① becomes 127.0.0.1 there.
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(ascii)
	return addr, err == nil
}

// control is the dialer's hook: it sees the very address of each connect. What it cannot read it denies.
func (g *Guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &DeniedError{}
	}
	addrPort, err := netip.ParseAddrPort(address)
	if err != nil {
		return &DeniedError{}
	}
	return g.Check(addrPort.Addr())
}

// IsDenied tells whether err, or what it wraps, is a denial.
func IsDenied(err error) bool {
	var denied *DeniedError
	return errors.As(err, &denied)
}
