package payload

import (
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendJSON appends v as Python's json.dumps(v, default=str) writes it: ", " and ": " as
// separators, ASCII only, keys in order, integers in full, floats by repr, NaN and Infinity by
// name, bytes by str().
func AppendJSON(dst []byte, v Value) []byte {
	switch v.kind {
	case Null:
		return append(dst, "null"...)
	case Bool:
		return strconv.AppendBool(dst, v.bits == 1)
	case Int:
		return strconv.AppendInt(dst, int64(v.bits), 10)
	case Big:
		return append(dst, v.text...)
	case Float:
		return appendFloat(dst, math.Float64frombits(v.bits), "NaN", "Infinity")
	case String:
		return appendJSONString(dst, v.text)
	case Bytes:
		return appendJSONString(dst, string(appendBytesRepr(nil, v.text)))
	case List:
		dst = append(dst, '[')
		for i, item := range v.list() {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = AppendJSON(dst, item)
		}
		return append(dst, ']')
	case Object:
		dst = append(dst, '{')
		keys := v.names()
		for i, item := range v.list() {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendJSONString(dst, keys[i])
			dst = append(dst, ": "...)
			dst = AppendJSON(dst, item)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// jsonSafe holds the bytes that need no escape in a JSON string.
var jsonSafe = func() (safe [256]bool) {
	for c := ' '; c <= '~'; c++ {
		safe[c] = c != '"' && c != '\\'
	}
	return safe
}()

func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	begin := 0 // of the part not yet appended
	for i := 0; i < len(s); {
		c := s[i]
		if jsonSafe[c] {
			i++
			continue
		}
		dst = append(dst, s[begin:i]...)
		size := 1
		switch {
		case c >= utf8.RuneSelf:
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			dst = appendJSONRune(dst, r)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\b':
			dst = append(dst, '\\', 'b')
		default:
			dst = appendHex4(dst, uint32(c))
		}
		i += size
		begin = i
	}
	dst = append(dst, s[begin:]...)
	return append(dst, '"')
}

func appendJSONRune(dst []byte, r rune) []byte {
	if r < 0x10000 {
		return appendHex4(dst, uint32(r))
	}
	r -= 0x10000
	dst = appendHex4(dst, 0xd800|uint32(r>>10))
	return appendHex4(dst, 0xdc00|uint32(r&0x3ff))
}

func appendHex4(dst []byte, c uint32) []byte {
	return append(dst, '\\', 'u', hexDigits[c>>12&15], hexDigits[c>>8&15], hexDigits[c>>4&15], hexDigits[c&15])
}

// appendFloat appends Python's repr of f: the shortest digits that read back as f, always with a
// point or an exponent; outside 1e-4 <= |f| < 1e16, an exponent of at least two digits.
func appendFloat(dst []byte, f float64, nan, inf string) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, nan...)
	case math.IsInf(f, 1):
		return append(dst, inf...)
	case math.IsInf(f, -1):
		return append(append(dst, '-'), inf...)
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	begin := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if slices.Contains(dst[begin:], '.') {
		return dst
	}
	return append(dst, ".0"...)
}
