package store

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// valid returns s with invalid UTF-8 replaced by U+FFFD. The columns are for people; a delivery's
// ID is made of the original bytes.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// bytesOf returns nil as empty; the driver would send NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// small fits n into a SMALLINT UNSIGNED; such counters are compared only with small numbers.
func small(n int) int { return max(0, min(n, math.MaxUint16)) }

// micros returns d for INTERVAL … MICROSECOND. Use it in DATE_ADD and DATE_SUB, not after + and -,
// where the embedded database loses fractions of seconds.
func micros(d time.Duration) int64 { return d.Microseconds() }

// timeOrNull returns t for a DATETIME column, truncated to precision; nil if t is zero or out of
// range.
func timeOrNull(t time.Time, precision time.Duration) any {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	return t.Truncate(precision)
}

// list returns "(?, ?, …)" with n placeholders.
func list(n int) string {
	if n == 0 {
		return "(NULL)" // IN () is invalid SQL; IN (NULL) matches nothing
	}
	return "(" + strings.Repeat("?, ", n-1) + "?)"
}
