package decode

import "time"

// parseTime reads what Python's datetime.isoformat() writes for a moment with an offset, and what
// else datetime.fromisoformat() reads in the extended format: any one character between date and
// time, no minutes or seconds, a comma as the decimal point, fractions of any length (cut to
// microseconds), Z. It returns the moment in UTC.
func parseTime(s string) (time.Time, bool) {
	sc := isoScanner{text: s}
	year := sc.digits(4)
	sc.skip('-')
	month := sc.digits(2)
	sc.skip('-')
	day := sc.digits(2)
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

func (sc *isoScanner) digits(n int) int {
	value := 0
	for range n {
		if !sc.isDigit() {
			sc.bad = true
			return 0
		}
		value = 10*value + int(sc.peek()-'0')
		sc.pos++
	}
	return value
}

func (sc *isoScanner) skip(c byte) {
	if sc.peek() != c {
		sc.bad = true
		return
	}
	sc.pos++
}

func (sc *isoScanner) any() {
	if c := sc.peek(); c == 0 || c >= 0x80 {
		sc.bad = true
		return
	}
	sc.pos++
}

// clock reads HH[:MM[:SS[.f…]]].
func (sc *isoScanner) clock() time.Duration {
	total := time.Duration(sc.digits(2)) * time.Hour
	for _, unit := range [...]time.Duration{time.Minute, time.Second} {
		if sc.peek() != ':' {
			return total
		}
		sc.pos++
		n := sc.digits(2)
		if n > 59 {
			sc.bad = true
		}
		total += time.Duration(n) * unit
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
	sign := sc.peek()
	sc.any()
	switch sign {
	case 'Z':
		return 0
	case '+', '-':
	default: // a time without an offset could be any moment
		sc.bad = true
		return 0
	}
	offset := sc.clock()
	if sc.isDigit() {
		n := sc.digits(2)
		if n > 59 {
			sc.bad = true
		}
		offset += time.Duration(n) * time.Minute
	}
	if sign == '-' {
		return -offset
	}
	return offset
}
