package payload

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// appendRepr appends Python's repr of v.
func appendRepr(dst []byte, v Value) []byte { return appendValue(dst, v, true) }

// quoteFor returns the quote that repr uses: single, unless s contains single quotes and no double.
func quoteFor(s string) byte {
	if strings.IndexByte(s, '\'') >= 0 && strings.IndexByte(s, '"') < 0 {
		return '"'
	}
	return '\''
}

func appendStringRepr(dst []byte, s string) []byte {
	quote := quoteFor(s)
	dst = append(dst, quote)
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			dst = appendASCIIRepr(dst, byte(r), quote)
		case isPrintable(r):
			dst = utf8.AppendRune(dst, r)
		case r <= 0xff:
			dst = append(dst, '\\', 'x', hexDigits[r>>4], hexDigits[r&15])
		case r <= 0xffff:
			dst = appendHex4(dst, uint32(r))
		default:
			dst = append(dst, '\\', 'U')
			for shift := 28; shift >= 0; shift -= 4 {
				dst = append(dst, hexDigits[r>>shift&15])
			}
		}
	}
	return append(dst, quote)
}

func appendBytesRepr(dst []byte, b string) []byte {
	quote := quoteFor(b)
	dst = append(dst, 'b', quote)
	for i := range len(b) {
		dst = appendASCIIRepr(dst, b[i], quote)
	}
	return append(dst, quote)
}

// appendASCIIRepr appends a byte as the repr of str and bytes does; one above ASCII is of bytes.
func appendASCIIRepr(dst []byte, c, quote byte) []byte {
	switch {
	case c == quote || c == '\\':
		return append(dst, '\\', c)
	case c < ' ' || c > '~':
		if at := strings.IndexByte("\t\n\r", c); at >= 0 {
			return append(dst, '\\', "tnr"[at])
		}
		return append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, c)
}

// printableText, by testdata/python.py: the characters above ASCII from which on str.isprintable is
// false, true and so on in Python 3.12 (Unicode 15.0.0). Another Unicode must not change bodies.
//
//go:embed printable.txt
var printableText string

var printableEdges = func() (edges []rune) {
	for text := range strings.FieldsSeq(printableText) {
		edge, err := strconv.ParseUint(text, 16, 21)
		if err != nil {
			panic(err)
		}
		edges = append(edges, rune(edge))
	}
	return edges
}()

// isPrintable is Python's str.isprintable for a rune above ASCII.
func isPrintable(r rune) bool {
	i, exact := slices.BinarySearch(printableEdges, r)
	return (i%2 == 0) != exact
}
