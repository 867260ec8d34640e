package store

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// valid returns s as the database takes it, with U+FFFD for invalid UTF-8. Text columns are for
// people: a delivery is identified by its ID, which is made of the original bytes.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// bytesOf makes nil, which the driver would send as NULL, empty.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// small fits n into a SMALLINT UNSIGNED. These counters are compared with small numbers only.
func small(n int) int { return max(0, min(n, math.MaxUint16)) }

// capped limits the rows of a statement, so that it holds few locks.
func capped(limit int) int { return max(0, min(limit, maxRows)) }

// micros returns d for an INTERVAL … MICROSECOND. Use it in DATE_ADD and DATE_SUB, not after + and
// -, where the embedded database loses the fraction of the second.
func micros(d time.Duration) int64 { return d.Microseconds() }

// timeOrNull returns t for a DATETIME column of the given precision, truncated, or nil if t is zero
// or does not fit the column.
func timeOrNull(t time.Time, precision time.Duration) any {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return nil
	}
	return t.Truncate(precision)
}

// tuples returns n times tuple, with commas between.
func tuples(tuple string, n int) string { return strings.Repeat(tuple+", ", n-1) + tuple }

// list returns "(?, ?, …)" with n placeholders, n above 0.
func list(n int) string { return "(" + tuples("?", n) + ")" }

// name returns what errors call a lane.
func name(lane delivery.Lane) string { return fmt.Sprintf("%s rule %d", lane.Kind, lane.RuleID) }

// idArgs returns ids as arguments.
func idArgs(ids []delivery.ID) []any {
	args := make([]any, len(ids))
	for i := range ids {
		args[i] = ids[i][:]
	}
	return args
}
