package egress

import (
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

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
