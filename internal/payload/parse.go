package payload

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Limits of ParseJSON.
const (
	maxParseDepth = 500
	// maxIntDigits is Python's limit for int().
	maxIntDigits = 4300
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
	if len(p.text) >= 3 && p.text[:3] == "\ufeff" {
		p.pos = 3
	}
	v, err := p.value(0)
	if err == nil {
		p.space()
		if p.pos < len(p.text) {
			err = p.fail("text after the value")
		}
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
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
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
	if len(p.text)-p.pos >= len(w) && p.text[p.pos:p.pos+len(w)] == w {
		p.pos += len(w)
		return true
	}
	return false
}

func (p *parser) value(depth int) (Value, error) {
	if depth > maxParseDepth {
		return Value{}, p.fail("nested too deep")
	}
	p.space()
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.list(depth)
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

func (p *parser) list(depth int) (Value, error) {
	p.pos++
	var items []Value
	p.space()
	if p.peek() == ']' {
		p.pos++
		return ListValue(nil), nil
	}
	for {
		item, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		items = append(items, item)
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
		case ']':
			p.pos++
			return ListValue(items), nil
		default:
			return Value{}, p.fail("list without its end")
		}
	}
}

func (p *parser) object(depth int) (Value, error) {
	p.pos++
	var o Entries
	p.space()
	if p.peek() == '}' {
		p.pos++
		return o.Object(), nil
	}
	for {
		p.space()
		if p.peek() != '"' {
			return Value{}, p.fail("no key")
		}
		key, err := p.str()
		if err != nil {
			return Value{}, err
		}
		p.space()
		if p.peek() != ':' {
			return Value{}, p.fail("no colon")
		}
		p.pos++
		item, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		o.Set(key, item)
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
		case '}':
			p.pos++
			return o.Object(), nil
		default:
			return Value{}, p.fail("object without its end")
		}
	}
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
	float := false
	if end := p.pos; p.peek() == '.' {
		p.pos++
		if p.digits() == 0 {
			p.pos = end
			return Value{}, p.fail("point without digits")
		}
		float = true
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if p.digits() == 0 {
			return Value{}, p.fail("exponent without digits")
		}
		float = true
	}
	text := p.text[begin:p.pos]
	if float {
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

func (p *parser) str() (string, error) {
	p.pos++
	begin := p.pos
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == '"':
			s := p.text[begin:p.pos]
			p.pos++
			return s, nil
		case c == '\\':
			return p.escaped(append(make([]byte, 0, 64), p.text[begin:p.pos]...))
		case c < ' ':
			return "", p.fail("control character in a string")
		}
		p.pos++
	}
	return "", p.fail("string without its end")
}

// escaped reads the rest of a string from its first escape; buf is what came before.
func (p *parser) escaped(buf []byte) (string, error) {
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		p.pos++
		switch {
		case c == '"':
			return string(buf), nil
		case c < ' ':
			p.pos--
			return "", p.fail("control character in a string")
		case c != '\\':
			buf = append(buf, c)
			continue
		}
		c = p.peek()
		p.pos++
		switch c {
		case '"', '\\', '/':
			buf = append(buf, c)
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		case 'u':
			r, ok := p.hex4()
			if !ok {
				return "", p.fail("bad \\u escape")
			}
			buf = utf8.AppendRune(buf, p.pair(r))
		default:
			p.pos--
			return "", p.fail("bad escape")
		}
	}
	return "", p.fail("string without its end")
}

// pair joins r with a following low surrogate; a lone surrogate is U+FFFD.
func (p *parser) pair(r rune) rune {
	if r < 0xd800 || r > 0xdfff {
		return r
	}
	if r < 0xdc00 && p.pos+2 <= len(p.text) && p.text[p.pos:p.pos+2] == `\u` {
		back := p.pos
		p.pos += 2
		if low, ok := p.hex4(); ok && 0xdc00 <= low && low <= 0xdfff {
			return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
		}
		p.pos = back
	}
	return utf8.RuneError
}

func (p *parser) hex4() (rune, bool) {
	if len(p.text)-p.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(p.text[p.pos : p.pos+4]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.pos += 4
	return r, true
}
