// Package payload builds the bodies of webhooks: ordered values, encoded as Python-style JSON or as
// form fields, byte for byte like the openedx-webhooks plugin 22. Encoding a value never fails.
package payload

import (
	"math"
	"strconv"
)

// Kind is the type of a Value.
type Kind uint8

// The kinds of a Value. The zero Value is Null.
const (
	Null   Kind = iota // nothing
	Bool               // true or false
	Int                // an integer of 64 bits
	Big                // an integer of any size, as decimal text
	Float              // a double, NaN and infinities included
	String             // text, valid UTF-8
	Bytes              // raw bytes (Avro bytes and fixed)
	List               // values in order
	Object             // named values in order
)

// Value is anything that Avro, JSON or a form can hold, with the order of fields and map keys kept.
// Values are immutable; a changed copy may share parts with the original.
type Value struct {
	text string
	sub  *compound // of a List or an Object; nil if empty
	bits uint64
	kind Kind
}

// compound is behind a pointer to keep a Value small: most are text or numbers.
type compound struct {
	items []Value
	keys  []string // of an Object, one for each item; values of one schema may share them
}

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	v := Value{kind: Bool}
	if b {
		v.bits = 1
	}
	return v
}

// IntValue returns an Int.
func IntValue(n int64) Value { return Value{kind: Int, bits: uint64(n)} }

// FloatValue returns a Float.
func FloatValue(f float64) Value { return Value{kind: Float, bits: math.Float64bits(f)} }

// StringValue returns a String.
func StringValue(s string) Value { return Value{kind: String, text: s} }

// BytesValue returns Bytes; it takes a string because values are immutable.
func BytesValue(b string) Value { return Value{kind: Bytes, text: b} }

// BigValue returns the integer with the decimal digits, which have no leading zeros and may follow
// a minus sign. It is an Int if it fits in 64 bits.
func BigValue(digits string) Value {
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return IntValue(n)
	}
	return Value{kind: Big, text: digits}
}

// ListValue returns a List that owns items from now on.
func ListValue(items []Value) Value { return (*Builder)(nil).List(items) }

// ObjectValue returns an Object that owns keys and items from now on; keys must be unique. It
// panics if the lengths differ, which is a mistake of the caller, never of the input.
func ObjectValue(keys []string, items []Value) Value { return (*Builder)(nil).Object(keys, items) }

// Builder allocates the lists and objects of one message in a few large chunks, each of which lives
// as long as any Value in it. It is for one goroutine. A nil Builder allocates each by itself.
type Builder struct {
	items []Value
	subs  []compound
}

// The chunks fit a typical event: about thirty values in five records.
const (
	itemsPiece = 32
	subsPiece  = 8
)

// Items returns n zero Values to be filled in.
func (b *Builder) Items(n int) []Value {
	if n > len(b.items) {
		if n > itemsPiece/2 {
			return make([]Value, n)
		}
		b.items = make([]Value, itemsPiece)
	}
	items := b.items[:n:n]
	b.items = b.items[n:]
	return items
}

func (b *Builder) compound(items []Value, keys []string) *compound {
	if len(items) == 0 {
		return nil
	}
	if b == nil {
		return &compound{items, keys}
	}
	if len(b.subs) == 0 {
		b.subs = make([]compound, subsPiece)
	}
	sub := &b.subs[0]
	b.subs = b.subs[1:]
	sub.items, sub.keys = items, keys
	return sub
}

// List is ListValue in the builder's memory.
func (b *Builder) List(items []Value) Value { return Value{kind: List, sub: b.compound(items, nil)} }

// Object is ObjectValue in the builder's memory, panic included.
func (b *Builder) Object(keys []string, items []Value) Value {
	if len(keys) != len(items) {
		panic("payload: an object needs as many keys as values")
	}
	return Value{kind: Object, sub: b.compound(items, keys)}
}

// Kind returns what v holds.
func (v Value) Kind() Kind { return v.kind }

// Bool returns a Bool's value, false for every other kind.
func (v Value) Bool() bool { return v.kind == Bool && v.bits == 1 }

// Int returns an Int's value, 0 for every other kind.
func (v Value) Int() int64 {
	if v.kind != Int {
		return 0
	}
	return int64(v.bits)
}

// Float returns a Float's value, 0 for every other kind.
func (v Value) Float() float64 {
	if v.kind != Float {
		return 0
	}
	return math.Float64frombits(v.bits)
}

// Text returns a String's text, the bytes of Bytes and the digits of a Big, else "".
func (v Value) Text() string { return v.text }

// Len returns how many items a List or an Object has.
func (v Value) Len() int { return len(v.list()) }

// Item returns item i of a List or an Object. It panics when i is out of range.
func (v Value) Item(i int) Value { return v.list()[i] }

// Key returns the key of item i of an Object. It panics when i is out of range.
func (v Value) Key(i int) string { return v.names()[i] }

// Get returns an Object's value for key.
func (v Value) Get(key string) (Value, bool) {
	for i, name := range v.names() {
		if name == key {
			return v.sub.items[i], true
		}
	}
	return Value{}, false
}

func (v Value) list() []Value {
	if v.sub == nil {
		return nil
	}
	return v.sub.items
}

func (v Value) names() []string {
	if v.sub == nil {
		return nil
	}
	return v.sub.keys
}
