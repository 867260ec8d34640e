package decode

import "time"

// parseTime reads what Python's datetime.isoformat() writes for a moment with an offset, and what
// else datetime.fromisoformat() reads in the extended format: any one character between date and
// time, no minutes or seconds, a comma as the decimal point, fractions of any length (cut to
// microseconds), Z. It returns the moment in UTC.
func parseTime(s string) (time.Time, bool) {
	sc := isoScanner{text: s}
	year := sc.digits(4, 9999)
	sc.skip('-')
	month := sc.digits(2, 12)
	sc.skip('-')
	day := sc.digits(2, 31)
	sc.any()
	clock := sc.clock()
	offset := sc.offset()
	if sc.bad || sc.pos != len(s) || year < 1 || clock >= 24*time.Hour || offset <= -24*time.Hour || offset >= 24*time.Hour {
		return time.Time{}, false
	}
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if date.Month() != time.Month(month) || date.Day() != day {
		return time.Time{}, false
	}
	t := date.Add(clock - offset)
	return t, t.Year() >= minYear && t.Year() <= 9999
}

// minYear is the first year that MySQL's DATETIME is documented to hold.
const minYear = 1000

// isoScanner reads text from the left; bad says that something did not fit.
type isoScanner struct {
	text string
	pos  int
	bad  bool
}

func (sc *isoScanner) peek() byte {
	if sc.pos < len(sc.text) {
		return sc.text[sc.pos]
	}
	return 0
}

func (sc *isoScanner) isDigit() bool { return '0' <= sc.peek() && sc.peek() <= '9' }

// digits reads a number of n digits, at most limit.
func (sc *isoScanner) digits(n, limit int) int {
	value := 0
	for range n {
		sc.bad = sc.bad || !sc.isDigit()
		value = 10*value + int(sc.peek()-'0')
		sc.pos++
	}
	sc.bad = sc.bad || value > limit
	return value
}

func (sc *isoScanner) skip(c byte) {
	sc.bad = sc.bad || sc.peek() != c
	sc.pos++
}

// any reads any character of ASCII, and returns it.
func (sc *isoScanner) any() byte {
	c := sc.peek()
	sc.bad = sc.bad || c == 0 || c >= 0x80
	sc.pos++
	return c
}

// clock reads HH[:MM[:SS[.f…]]].
func (sc *isoScanner) clock() time.Duration {
	total := time.Duration(sc.digits(2, 99)) * time.Hour
	for _, unit := range [...]time.Duration{time.Minute, time.Second} {
		if sc.peek() != ':' {
			return total
		}
		sc.pos++
		total += time.Duration(sc.digits(2, 59)) * unit
	}
	if c := sc.peek(); c != '.' && c != ',' {
		return total
	}
	sc.pos++
	sc.bad = sc.bad || !sc.isDigit()
	for unit := 100 * time.Millisecond; sc.isDigit(); unit /= 10 {
		if unit >= time.Microsecond {
			total += time.Duration(sc.peek()-'0') * unit
		}
		sc.pos++
	}
	return total
}

// offset reads Z, ±HH:MM and the other forms of ±clock, and ±HHMM.
func (sc *isoScanner) offset() time.Duration {
	sign := sc.any()
	if sign == 'Z' {
		return 0
	}
	sc.bad = sc.bad || sign != '+' && sign != '-' // a time without an offset could be any moment
	offset := sc.clock()
	if sc.isDigit() {
		offset += time.Duration(sc.digits(2, 59)) * time.Minute
	}
	if sign == '-' {
		return -offset
	}
	return offset
}
