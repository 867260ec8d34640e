package store

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// valid returns s as the database takes it: invalid UTF-8 becomes U+FFFD. The columns are for people to read and find rows by; the
// identity of a delivery is its ID, made of the original bytes.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// bytesOf makes nil, which the driver would send as NULL, empty.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// small fits n into a SMALLINT UNSIGNED. The counters in it are compared with small numbers only.
func small(n int) int { return max(0, min(n, math.MaxUint16)) }

// micros returns d for an INTERVAL … MICROSECOND. It stands in DATE_ADD and DATE_SUB, not after + and -: there the embedded
// database loses the fraction of the second.
func micros(d time.Duration) int64 { return d.Microseconds() }

// timeOrNull returns t for a DATETIME column of the given precision, cut rather than rounded; nil where t is zero or the column
// cannot hold it.
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
		return "(NULL)" // IN () is no SQL; IN (NULL) holds for nothing
	}
	return "(" + strings.Repeat("?, ", n-1) + "?)"
}
