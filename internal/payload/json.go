package payload

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendJSON appends v as Python's json.dumps(v, default=str) writes it: spaces after , and :, only
// ASCII, keys in order, integers in full, floats by repr, NaN and Infinity by name, bytes by str().
func AppendJSON(dst []byte, v Value) []byte { return appendValue(dst, v, false) }

// appendValue appends v as JSON or as Python's repr, which differ in words and texts.
func appendValue(dst []byte, v Value, repr bool) []byte {
	switch v.kind {
	case Bool:
		switch {
		case !repr:
			return strconv.AppendBool(dst, v.bits == 1)
		case v.bits == 1:
			return append(dst, "True"...)
		}
		return append(dst, "False"...)
	case Int:
		return strconv.AppendInt(dst, int64(v.bits), 10)
	case Big:
		return append(dst, v.text...)
	case Float:
		if repr {
			return appendFloat(dst, math.Float64frombits(v.bits), "nan", "inf")
		}
		return appendFloat(dst, math.Float64frombits(v.bits), "NaN", "Infinity")
	case String:
		return appendText(dst, v.text, repr)
	case Bytes:
		if repr {
			return appendBytesRepr(dst, v.text)
		}
		return appendJSONString(dst, string(appendBytesRepr(nil, v.text)))
	case List:
		dst = append(dst, '[')
		for i, item := range v.list() {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendValue(dst, item, repr)
		}
		return append(dst, ']')
	case Object:
		dst = append(dst, '{')
		keys := v.names()
		for i, item := range v.list() {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(appendText(dst, keys[i], repr), ": "...)
			dst = appendValue(dst, item, repr)
		}
		return append(dst, '}')
	case Null:
	}
	if repr {
		return append(dst, "None"...)
	}
	return append(dst, "null"...)
}

func appendText(dst []byte, s string, repr bool) []byte {
	if repr {
		return appendStringRepr(dst, s)
	}
	return appendJSONString(dst, s)
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
		default:
			if at := strings.IndexByte("\b\t\n\f\r", c); at >= 0 {
				dst = append(dst, '\\', "btnfr"[at])
			} else {
				dst = appendHex4(dst, uint32(c))
			}
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
