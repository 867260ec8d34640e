package payload

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of ParseJSON.
const (
	maxParseDepth = 500
	maxIntDigits  = 4300 // Python's limit for int()
)

// ParseJSON reads one JSON document as Python's json.loads does: NaN, Infinity and -Infinity are
// numbers, integers are exact at any size, a number with a point or an exponent is a double
// (infinite on overflow), and a repeated key keeps its position and takes the later value. Two
// things differ: nesting deeper than 500 is an error, and a lone surrogate becomes U+FFFD, because
// a String is valid UTF-8. Errors give the offset and never quote the document.
func ParseJSON(text []byte) (Value, error) {
	if !utf8.Valid(text) {
		return Value{}, errors.New("parse JSON: not UTF-8")
	}
	p := parser{text: string(text)}
	p.word("\ufeff")
	v, err := p.value(0)
	if p.space(); err == nil && p.pos < len(p.text) {
		err = p.fail("text after the value")
	}
	if err != nil {
		return Value{}, fmt.Errorf("parse JSON: %w", err)
	}
	return v, nil
}

type parser struct {
	text string
	pos  int
}

func (p *parser) fail(what string) error { return fmt.Errorf("%s at offset %d", what, p.pos) }

func (p *parser) space() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\n\r", p.text[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *parser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// word skips w if it comes next, and reports whether it did.
func (p *parser) word(w string) bool {
	found := strings.HasPrefix(p.text[p.pos:], w)
	if found {
		p.pos += len(w)
	}
	return found
}

func (p *parser) value(depth int) (Value, error) {
	if depth > maxParseDepth {
		return Value{}, p.fail("nested too deep")
	}
	p.space()
	switch c := p.peek(); {
	case c == '{':
		var o Entries
		err := p.items('}', "object", func() error { return p.entry(&o, depth) })
		return o.Object(), err
	case c == '[':
		var list []Value
		err := p.items(']', "list", func() error {
			item, err := p.value(depth + 1)
			list = append(list, item)
			return err
		})
		return ListValue(list), err
	case c == '"':
		s, err := p.str()
		return StringValue(s), err
	case p.word("null"):
		return Value{}, nil
	case p.word("true"):
		return BoolValue(true), nil
	case p.word("false"):
		return BoolValue(false), nil
	case p.word("NaN"):
		return FloatValue(math.NaN()), nil
	case p.word("Infinity"):
		return FloatValue(math.Inf(1)), nil
	case p.word("-Infinity"):
		return FloatValue(math.Inf(-1)), nil
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	}
	return Value{}, p.fail("no value")
}

// items calls read for each item of a list or an object.
func (p *parser) items(end byte, what string, read func() error) error {
	p.pos++
	if p.space(); p.peek() == end {
		p.pos++
		return nil
	}
	for {
		if err := read(); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
		case end:
			p.pos++
			return nil
		default:
			return p.fail(what + " without its end")
		}
	}
}

func (p *parser) entry(o *Entries, depth int) error {
	if p.space(); p.peek() != '"' {
		return p.fail("no key")
	}
	key, err := p.str()
	if err != nil {
		return err
	}
	if p.space(); !p.word(":") {
		return p.fail("no colon")
	}
	item, err := p.value(depth + 1)
	o.Set(key, item)
	return err
}

// digits skips decimal digits and returns how many.
func (p *parser) digits() int {
	begin := p.pos
	for '0' <= p.peek() && p.peek() <= '9' {
		p.pos++
	}
	return p.pos - begin
}

func (p *parser) number() (Value, error) {
	begin := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	first := p.pos
	digits := p.digits()
	if digits == 0 {
		return Value{}, p.fail("number without digits")
	}
	if digits > 1 && p.text[first] == '0' {
		return Value{}, p.fail("number with a leading zero")
	}
	if end := p.pos; p.word(".") && p.digits() == 0 {
		p.pos = end
		return Value{}, p.fail("point without digits")
	}
	if p.word("e") || p.word("E") {
		if !p.word("+") {
			p.word("-")
		}
		if p.digits() == 0 {
			return Value{}, p.fail("exponent without digits")
		}
	}
	text := p.text[begin:p.pos]
	if strings.ContainsAny(text, ".eE") {
		// Out of range gives infinity or zero, as in Python; the syntax was checked above.
		f, err := strconv.ParseFloat(text, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return Value{}, p.fail("invalid number")
		}
		return FloatValue(f), nil
	}
	if digits > maxIntDigits {
		return Value{}, p.fail("integer with too many digits")
	}
	return BigValue(text), nil
}

// str reads a string. One without escapes is a part of the text.
func (p *parser) str() (string, error) {
	p.pos++
	begin := p.pos
	var before []byte // what came before begin
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == '"':
			part := p.text[begin:p.pos]
			p.pos++
			if before == nil {
				return part, nil
			}
			return string(append(before, part...)), nil
		case c < ' ':
			return "", p.fail("control character in a string")
		case c == '\\':
			before = append(before, p.text[begin:p.pos]...)
			p.pos++
			r, ok := p.escaped()
			if !ok {
				return "", p.fail("bad escape")
			}
			before, begin = utf8.AppendRune(before, r), p.pos
		default:
			p.pos++
		}
	}
	return "", p.fail("string without its end")
}

// escaped reads what follows a backslash. A lone surrogate is U+FFFD.
func (p *parser) escaped() (rune, bool) {
	c := p.peek()
	if at := strings.IndexByte(`"\/bfnrt`, c); at >= 0 {
		p.pos++
		return rune("\"\\/\b\f\n\r\t"[at]), true
	}
	r, ok := p.unit()
	if end := p.pos; utf16.IsSurrogate(r) {
		var low rune
		if p.word(`\`) {
			low, _ = p.unit()
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			p.pos = end
		}
	}
	return r, ok
}

// unit reads u and four hexadecimal digits.
func (p *parser) unit() (rune, bool) {
	if !p.word("u") || len(p.text)-p.pos < 4 {
		return 0, false
	}
	r, err := strconv.ParseUint(p.text[p.pos:p.pos+4], 16, 16)
	p.pos += 4
	return rune(r), err == nil
}
