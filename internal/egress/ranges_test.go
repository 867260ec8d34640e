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
	// The blocks of both registries that are not inside another one, and what the registries leave out.
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

func TestParseAllow(t *testing.T) {
	t.Parallel()
	blocks, err := ParseAllow(" 10.0.0.0/8, fd12::/64 ,,127.0.0.1/32")
	if err != nil || len(blocks) != 3 {
		t.Fatalf("%v, %v", blocks, err)
	}
	if blocks, err := ParseAllow(""); err != nil || len(blocks) != 0 {
		t.Fatalf("empty: %v, %v", blocks, err)
	}
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
		_, err := ParseAllow(text)
		if err == nil || !strings.Contains(err.Error(), fix) || !strings.Contains(err.Error(), Setting) {
			t.Errorf("%q: %v; want %s and the setting named", text, err, fix)
		}
	}
	if _, err := NewGuard([]netip.Prefix{{}}); err == nil {
		t.Error("an empty block was taken")
	}
	if _, err := NewGuard([]netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")}); err == nil {
		t.Error("a block with bits behind its prefix was taken")
	}
}
