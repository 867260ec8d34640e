package payload

import (
	"encoding/json"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
)

// Plain returns v as gojq knows values: nil, bool, int, *big.Int, float64, string, []any and
// map[string]any. Bytes, which no redacted event has, become text. Texts are made valid UTF-8.
func (v Value) Plain() any {
	switch v.kind {
	case Bool:
		return v.Bool()
	case Int:
		return int(v.Int())
	case Big:
		n, _ := new(big.Int).SetString(v.text, 10) // which are digits, as a Big promises
		return n
	case Float:
		return v.Float()
	case String, Bytes:
		return valid(v.text)
	case List:
		list := make([]any, v.Len())
		for i, item := range v.list() {
			list[i] = item.Plain()
		}
		return list
	case Object:
		object := make(map[string]any, v.Len())
		for i, item := range v.list() {
			object[v.Key(i)] = item.Plain()
		}
		return object
	default:
		return nil
	}
}

// FromPlain returns the Value of what Plain returns, or of a json.Number; others are null. Keys get
// sorted, NaN becomes null, and infinities become the largest doubles, as jq prints them.
func FromPlain(v any) Value {
	switch v := v.(type) {
	case bool:
		return BoolValue(v)
	case int:
		return IntValue(int64(v))
	case float64:
		if math.IsNaN(v) {
			return Value{}
		}
		return FloatValue(min(max(v, -math.MaxFloat64), math.MaxFloat64))
	case *big.Int:
		return BigValue(v.String())
	case json.Number:
		if n, ok := new(big.Int).SetString(v.String(), 10); ok {
			return BigValue(n.String())
		}
		f, _ := v.Float64() // infinite where it is too large
		return FromPlain(f)
	case string:
		return StringValue(valid(v))
	case []any:
		items := make([]Value, len(v))
		for i, item := range v {
			items[i] = FromPlain(item)
		}
		return ListValue(items)
	case map[string]any:
		var entries Entries
		entries.Grow(len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			entries.Set(valid(key), FromPlain(v[key])) // two keys may be the same by now
		}
		return entries.Object()
	default:
		return Value{}
	}
}

func valid(text string) string { return strings.ToValidUTF8(text, "\ufffd") }
