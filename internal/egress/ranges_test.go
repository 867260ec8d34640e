package egress

import (
	"net/netip"
	"strings"
	"testing"
)

func TestRangesFileIsWhole(t *testing.T) {
	t.Parallel()
	all, err := parseRanges(rangesFile)
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]bool)
	for _, b := range append(append([]block(nil), all.special...), all.metadata...) {
		have[b.prefix.String()] = true
	}
	// The blocks of both registries that are not inside another one, and what the registries leave
	// out.
	want := strings.FieldsSeq(`0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
		192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
		203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 ::1/128 ::/128 ::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23
		2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
		169.254.169.254/32 169.254.170.2/32 100.100.100.200/32 168.63.129.16/32 fd00:ec2::254/128`)
	for block := range want {
		if !have[block] {
			t.Errorf("%s is missing", block)
		}
	}
}

// Metadata addresses lie in blocks that an operator may allow for receivers. A wide block does not
// open them, their neighbours are the block's, and only a block that is the address itself opens
// one. The list is written by hand: the file may not testify for itself.
func TestMetadataAddresses(t *testing.T) {
	t.Parallel()
	all, err := parseRanges(rangesFile)
	if err != nil {
		t.Fatal(err)
	}
	wide := newGuard(t, "0.0.0.0/0", "::/0", "fd00::/8", "fe80::/10", "169.254.0.0/16", "100.64.0.0/10", "192.0.0.0/24", "168.63.0.0/16")
	listed := 0
	for addr := range strings.FieldsSeq(`169.254.169.254 169.254.169.252 169.254.170.2 169.254.170.23 169.254.42.42 169.254.0.23 192.0.0.192
		100.100.100.200 100.96.0.96 168.63.129.16 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fe80::a9fe:a9fe
		fd00:a9fe:a9fe::1 fd00:42::42 fd00:100::100:200`) {
		listed++
		a := netip.MustParseAddr(addr)
		if wide.Allowed(a) || newGuard(t).Allowed(a) {
			t.Errorf("%s is allowed", addr)
		}
		for _, next := range []netip.Addr{a.Prev(), a.Next()} {
			if !wide.Allowed(next) {
				t.Errorf("%s, next to %s, is denied", next, addr)
			}
		}
		if exact := netip.PrefixFrom(a, a.BitLen()).String(); !newGuard(t, exact).Allowed(a) {
			t.Errorf("%s is denied though a block is just this address", addr)
		}
	}
	if listed != len(all.metadata) {
		t.Errorf("the file has %d metadata addresses, this test %d", len(all.metadata), listed)
	}
}

func TestParseRangesRefuses(t *testing.T) {
	t.Parallel()
	const good = "public,0.0.0.0/0,all,x\nspecial,10.0.0.0/8,ten,x\nmetadata,169.254.169.254/32,meta,x\n"
	if _, err := parseRanges(good); err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"bits behind the prefix":      "special,10.0.0.1/9,n,s",
		"not a block":                 "special,ten,n,s",
		"an address":                  "special,11.0.0.1,n,s",
		"IPv4 as IPv6":                "special,::ffff:11.0.0.0/104,n,s",
		"twice":                       "special,10.0.0.0/8,n,s",
		"twice under different kinds": "public,10.0.0.0/8,n,s",
		"unknown kind":                "denied,11.0.0.0/8,n,s",
		"no name":                     "special,11.0.0.0/8,,s",
		"no source":                   "special,11.0.0.0/8,n,",
		"too few fields":              "special,11.0.0.0/8,n",
		"too many fields":             "special,11.0.0.0/8,n,s,t",
		"metadata block":              "metadata,169.254.169.0/24,n,s",
		"broken quotes":               `special,11.0.0.0/8,"n,s`,
	} {
		if _, err := parseRanges(good + line + "\n"); err == nil {
			t.Errorf("%s: %q was taken", name, line)
		}
	}
	for _, missing := range []string{"public", "special", "metadata"} {
		var rest []string
		for line := range strings.Lines(good) {
			if !strings.HasPrefix(line, missing) {
				rest = append(rest, line)
			}
		}
		if _, err := parseRanges(strings.Join(rest, "")); err == nil {
			t.Errorf("a file without %s was taken", missing)
		}
	}
}

func FuzzParseRanges(f *testing.F) {
	f.Add(rangesFile)
	f.Add("public,0.0.0.0/0,all,x\nspecial,10.0.0.0/8,ten,x\nmetadata,::1/128,meta,x\n")
	f.Add("special,\"10.0.0.0/8")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseRanges(text)
		if err != nil {
			return
		}
		for _, kind := range [][]block{all.public, all.special, all.metadata} {
			for _, b := range kind {
				if !b.prefix.IsValid() || b.prefix != b.prefix.Masked() || b.prefix.Addr().Is4In6() {
					t.Errorf("took %v", b.prefix)
				}
			}
		}
	})
}

func TestWrongBlocks(t *testing.T) {
	t.Parallel()
	for text, fix := range map[string]string{
		"10.0.0.5":               "10.0.0.5/32",
		"fd00::1":                "fd00::1/128",
		"10.1.2.3/8":             "10.0.0.0/8",
		"::ffff:10.0.0.0/104":    "IPv4",
		"lms.internal":           "10.1.0.0/16",
		"10.0.0.0/8 11.0.0.0/8":  "CIDR",
		"10.0.0.0/33":            "CIDR",
		"fe80::1%eth0/64":        "CIDR",
		"10.0.0.0/8;192.0.2.0/8": "CIDR",
	} {
		if _, err := ParsePrefix(text); err == nil || !strings.Contains(err.Error(), fix) {
			t.Errorf("%q: %v; want %s", text, err, fix)
		}
	}
	for what, block := range map[string]netip.Prefix{"empty": {}, "bits behind its prefix": netip.MustParsePrefix("10.1.2.3/8")} {
		if _, err := NewGuard([]netip.Prefix{block}); err == nil || !strings.Contains(err.Error(), Setting) {
			t.Errorf("%s: %v; want an error that names the setting", what, err)
		}
	}
}
