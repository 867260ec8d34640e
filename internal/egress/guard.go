// Package egress is the HTTP transport for all outgoing requests: it guards the dialled address and
// limits what a hostile or broken endpoint can cost. A Pool holds one transport per client
// certificate, all with the same guard.
//
// No TCP connection is opened to an address that is neither public unicast nor allowed by the
// operator. The check runs on each connect, after name resolution, with the address that is handed
// to the kernel, so it does not matter how the URL spells the address, or whether a name resolves
// differently the second time.
//
// The package knows nothing of deliveries. It does not know NAT64 prefixes other than 64:ff9b::/96:
// operators of such networks must keep translated private addresses from being routed.
package egress

import (
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/net/idna"
)

// Setting is the name of the setting that widens what may be reached.
const Setting = "WEBHOOK_DISPATCHER_EGRESS_ALLOW"

// DeniedError says that an address may not be reached. It holds the host from the URL but never the
// address it resolved to, which would reveal the internal network to the author of the URL.
type DeniedError struct {
	// Host is the host of the URL, without port; empty if only an address was checked.
	Host string
}

// Error names the host and the setting.
func (e *DeniedError) Error() string {
	what := "the address"
	if e.Host != "" {
		what = fmt.Sprintf("host %q", e.Host)
	}
	return "egress denied: " + what + " is not at an allowed public address; to allow it, add its CIDR block to " +
		Setting + " (a metadata address needs its own /32 or /128)"
}

// Guard decides which addresses may be reached. It is immutable and safe for concurrent use.
//
// An address is allowed if it is public unicast or in a block of the allow list. A cloud's metadata
// address is allowed only by a block of exactly that address, so allowing 169.254.0.0/16 or
// 0.0.0.0/0 does not hand out credentials. An IPv6 address that embeds an IPv4 address (6to4,
// Teredo, NAT64, SIIT, ISATAP, IPv4-compatible) is allowed only if both are; an IPv4-mapped one
// counts as the IPv4 address.
type Guard struct {
	ranges *ranges
	allow  []netip.Prefix
}

// NewGuard returns a guard that allows the given blocks in addition to public addresses. It fails
// on blocks that ParsePrefix would reject, and on an error in the embedded ranges.
func NewGuard(allow []netip.Prefix) (*Guard, error) {
	all, err := parseRanges(rangesFile)
	if err != nil {
		return nil, err
	}
	for _, prefix := range allow {
		if err := checkPrefix(prefix); err != nil {
			return nil, fmt.Errorf("%s: %w", Setting, err)
		}
	}
	return &Guard{ranges: all, allow: slices.Clone(allow)}, nil
}

// Allowed reports whether addr may be reached. Zones are ignored; an invalid address is denied.
func (g *Guard) Allowed(addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = addr.WithZone("").Unmap()
	return g.allowedAlone(addr) && !slices.ContainsFunc(embedded(addr), func(inner netip.Addr) bool { return !g.allowedAlone(inner) })
}

// allowedAlone is Allowed without regard to embedded addresses.
func (g *Guard) allowedAlone(addr netip.Addr) bool {
	if holds(g.ranges.metadata, addr) {
		return slices.Contains(g.allow, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(addr) }) ||
		holds(g.ranges.public, addr) && !holds(g.ranges.special, addr)
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
	teredo    = netip.MustParsePrefix("2001::/32")
	compat    = netip.MustParsePrefix("::/96")
	translate = netip.MustParsePrefix("::ffff:0:0:0/96")
)

// embedded returns the IPv4 addresses in an IPv6 address that a router or host on the path may use
// as the destination.
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

// LiteralDenied reports whether host (a URL's Hostname) is itself a denied address, so that no DNS
// change can make it reachable. It folds Unicode digits as the HTTP client does. Short, decimal,
// octal and hexadecimal forms of IPv4 are names to Go, which are checked after they are resolved.
func (g *Guard) LiteralDenied(host string) bool {
	addr, ok := literal(host)
	return ok && !g.Allowed(addr)
}

// literal parses host as an address, the way net/http and the dialer do.
func literal(host string) (netip.Addr, bool) {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr, true
	}
	// net/http maps names to ASCII before it dials: ①②⑦.⓪.⓪.① becomes 127.0.0.1.
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(ascii)
	return addr, err == nil
}

// control is called by the dialer with the exact address of each connect. It denies addresses that
// it cannot parse.
func (g *Guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	addrPort, err := netip.ParseAddrPort(address)
	if network != "tcp4" && network != "tcp6" || err != nil || !g.Allowed(addrPort.Addr()) {
		return &DeniedError{}
	}
	return nil
}

// IsDenied reports whether err is or wraps a *DeniedError.
func IsDenied(err error) bool {
	_, denied := errors.AsType[*DeniedError](err)
	return denied
}

//go:embed ranges.csv
var rangesFile string

// block is one line of ranges.csv.
type block struct {
	prefix netip.Prefix
	name   string
}

// ranges is the content of ranges.csv by kind.
type ranges struct {
	public, special, metadata []block
}

// parseRanges reads the format that ranges.csv describes. It rejects a file with any error: a guard
// that lacks a block would let requests through.
func parseRanges(text string) (*ranges, error) {
	reader := csv.NewReader(strings.NewReader(text))
	reader.Comment = '#'
	reader.FieldsPerRecord = 4
	reader.TrimLeadingSpace = true
	var all ranges
	kinds := map[string]*[]block{"public": &all.public, "special": &all.special, "metadata": &all.metadata}
	seen := make(map[netip.Prefix]bool)
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read address ranges: %w", err)
		}
		line, _ := reader.FieldPos(0)
		kind, text, name, source := record[0], record[1], record[2], record[3]
		prefix, err := ParsePrefix(text)
		blocks := kinds[kind]
		switch {
		case err != nil:
		case blocks == nil:
			err = fmt.Errorf("kind %q: want public, special or metadata", kind)
		case seen[prefix]:
			err = fmt.Errorf("duplicate %s", prefix)
		case name == "" || source == "":
			err = fmt.Errorf("%s lacks a name or a source", prefix)
		case kind == "metadata" && !prefix.IsSingleIP():
			err = fmt.Errorf("metadata %s is not a single address", prefix)
		}
		if err != nil {
			return nil, fmt.Errorf("address ranges, line %d: %w", line, err)
		}
		seen[prefix] = true
		*blocks = append(*blocks, block{prefix, name})
	}
	if len(all.public) == 0 || len(all.special) == 0 || len(all.metadata) == 0 {
		return nil, errors.New("address ranges: a kind has no blocks")
	}
	return &all, nil
}

// ParsePrefix reads a CIDR block. It rejects host bits after the prefix, and IPv4 written as IPv6.
func ParsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil && addr.Zone() == "" {
			return netip.Prefix{}, fmt.Errorf("block %q has no prefix length: write %s/%d", text, addr, addr.BitLen())
		}
		return netip.Prefix{}, fmt.Errorf("block %q is not a CIDR block such as 10.1.0.0/16 or fd12::/64", text)
	}
	return prefix, checkPrefix(prefix)
}

func checkPrefix(prefix netip.Prefix) error {
	switch {
	case !prefix.IsValid():
		return errors.New("a CIDR block is empty")
	case prefix.Addr().Is4In6():
		return fmt.Errorf("block %s is IPv4 written as IPv6: write it as IPv4", prefix)
	case prefix != prefix.Masked():
		return fmt.Errorf("block %s has bits set after its prefix: write %s, or %s/%d for one address",
			prefix, prefix.Masked(), prefix.Addr(), prefix.Addr().BitLen())
	}
	return nil
}

func holds(blocks []block, addr netip.Addr) bool {
	return slices.ContainsFunc(blocks, func(b block) bool { return b.prefix.Contains(addr) })
}
