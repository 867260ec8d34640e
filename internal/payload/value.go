// Package payload builds the bodies that webhooks get: ordered values, and their spelling as Python-style JSON and as
// form fields, byte for byte as the openedx-webhooks plugin 22 spells them.
//
// It is pure: it knows neither rules nor HTTP, and it never fails on a value that it was given.
package payload

import "math"

// Kind tells what a Value holds.
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

// Value is an ordered value: what Avro, JSON or a form can hold, with the order of fields and map keys kept. Values are
// immutable: a change makes a new Value that may share parts with the old one.
type Value struct {
	text  string
	items []Value
	keys  []string // an object's, as long as items; may be shared between the values of one schema
	bits  uint64
	kind  Kind
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

// BytesValue returns Bytes; it takes the bytes as a string so that the value stays immutable.
func BytesValue(b string) Value { return Value{kind: Bytes, text: b} }

// ListValue returns a List that owns items from now on.
func ListValue(items []Value) Value { return Value{kind: List, items: items} }

// ObjectValue returns an Object that owns keys and items from now on. It panics when they differ in length: that is a
// mistake in the calling code, never in the input.
func ObjectValue(keys []string, items []Value) Value {
	if len(keys) != len(items) {
		panic("payload: an object needs as many keys as values")
	}
	return Value{kind: Object, keys: keys, items: items}
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

// Text returns a String's text, the bytes of Bytes and the digits of a Big, "" for every other kind.
func (v Value) Text() string { return v.text }

// Len returns how many items a List or an Object has.
func (v Value) Len() int { return len(v.items) }

// Item returns item i of a List or an Object. It panics when i is out of range.
func (v Value) Item(i int) Value { return v.items[i] }

// Key returns the key of item i of an Object. It panics when i is out of range.
func (v Value) Key(i int) string { return v.keys[i] }

// Get returns an Object's value for key, the last where a key stands twice.
func (v Value) Get(key string) (Value, bool) {
	for i := len(v.keys) - 1; i >= 0; i-- {
		if v.keys[i] == key {
			return v.items[i], true
		}
	}
	return Value{}, false
}
