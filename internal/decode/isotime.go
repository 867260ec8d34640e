package decode

import (
	"regexp"
	"strconv"
	"time"
)

const clockPattern = `(\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?`

// isoTime is a date, any one character, a clock, and Z or the sign and the clock of an offset; only
// there the colon may be left out.
var isoTime = regexp.MustCompile(
	`^(\d{4}-\d\d-\d\d)[\x01-\x7f]` + clockPattern + `(?:Z|([+-])(?:` + clockPattern + `|(\d\d)(\d\d)))$`)

// minYear is the first year that MySQL's DATETIME is documented to hold.
const minYear = 1000

// parseTime reads what Python's datetime.isoformat() writes for a moment with an offset, and what
// else datetime.fromisoformat() reads in the extended format. Fractions are cut to microseconds. A
// time without an offset is refused: it could be any moment. It returns the moment in UTC.
func parseTime(s string) (time.Time, bool) {
	m := isoTime.FindStringSubmatch(s)
	if m == nil {
		return time.Time{}, false
	}
	date, err := time.Parse(time.DateOnly, m[1])
	clock, isClock := clockOf(m[2], m[3], m[4], m[5])
	offset, isOffset := clockOf(m[7]+m[11], m[8]+m[12], m[9], m[10])
	if err != nil || !isClock || !isOffset {
		return time.Time{}, false
	}
	if m[6] == "-" {
		offset = -offset
	}
	t := date.Add(clock - offset)
	return t, t.Year() >= minYear && t.Year() <= 9999
}

// clockOf returns the time since midnight. Its arguments are digits; empty ones count as zero.
func clockOf(hours, minutes, seconds, fraction string) (time.Duration, bool) {
	number := func(digits string) int {
		n, _ := strconv.Atoi(digits) // 0 if there are none
		return n
	}
	h, m, s := number(hours), number(minutes), number(seconds)
	micros := number((fraction + "000000")[:6])
	clock := time.Duration((h*60+m)*60+s)*time.Second + time.Duration(micros)*time.Microsecond
	return clock, h < 24 && m < 60 && s < 60
}
