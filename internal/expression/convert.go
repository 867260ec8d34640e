package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// maxDepth is how deep a result may be nested: what reads bodies back takes no more.
const maxDepth = 400

// toJQ returns v as gojq knows it. Events hold no Bytes once they are redacted; other Bytes become text.
func toJQ(v payload.Value) any {
	switch v.Kind() {
	case payload.Bool:
		return v.Bool()
	case payload.Int:
		return int(v.Int())
	case payload.Big:
		n, _ := new(big.Int).SetString(v.Text(), 10) // which are digits, as a Big promises
		return n
	case payload.Float:
		return v.Float()
	case payload.String:
		return v.Text()
	case payload.Bytes:
		return valid(v.Text())
	case payload.List:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = toJQ(v.Item(i))
		}
		return list
	case payload.Object:
		object := make(map[string]any, v.Len())
		for i := range v.Len() {
			object[v.Key(i)] = toJQ(v.Item(i))
		}
		return object
	default:
		return nil
	}
}

// output turns a result of gojq into a value, and stops as soon as that takes more than `left` bytes: a small result in gojq, which
// shares its parts, may be a huge one in JSON. What is counted is never more than what is written in the end.
type output struct{ left int }

var errTooLarge = fmt.Errorf("the result has more than %d bytes as JSON", MaxOutput)

func (o *output) spend(bytes int) error {
	if o.left -= bytes; o.left < 0 {
		return errTooLarge
	}
	return nil
}

func (o *output) value(v any, depth int) (payload.Value, error) {
	if depth > maxDepth {
		return payload.Value{}, fmt.Errorf("the result is nested deeper than %d", maxDepth)
	}
	if err := o.spend(1); err != nil {
		return payload.Value{}, err
	}
	switch v := v.(type) {
	case nil:
		return payload.Value{}, nil
	case bool:
		return payload.BoolValue(v), nil
	case int:
		return payload.IntValue(int64(v)), nil
	case float64:
		return float(v), nil
	case *big.Int:
		return o.integer(v)
	case json.Number:
		return o.number(v)
	case string:
		return payload.StringValue(valid(v)), o.spend(len(v) + 1)
	case []any:
		return o.list(v, depth)
	case map[string]any:
		return o.object(v, depth)
	}
	return payload.Value{}, fmt.Errorf("the result holds a %T", v)
}

// float keeps a number a float. What JSON has no spelling for becomes what jq prints of it.
func float(f float64) payload.Value {
	if math.IsNaN(f) {
		return payload.Value{}
	}
	return payload.FloatValue(min(max(f, -math.MaxFloat64), math.MaxFloat64))
}

func (o *output) integer(n *big.Int) (payload.Value, error) {
	if err := o.spend(n.BitLen() / 4); err != nil { // more than a digit has 3 bits, less than it has 4
		return payload.Value{}, err
	}
	return payload.BigValue(n.String()), nil
}

// number: gojq makes none of these by itself, but says that it may.
func (o *output) number(text json.Number) (payload.Value, error) {
	if n, ok := new(big.Int).SetString(text.String(), 10); ok {
		return o.integer(n)
	}
	f, err := text.Float64()
	if err != nil {
		return payload.Value{}, errors.New("the result holds a number that is none")
	}
	return float(f), nil
}

func (o *output) list(v []any, depth int) (payload.Value, error) {
	if err := o.spend(len(v)); err != nil {
		return payload.Value{}, err
	}
	items := make([]payload.Value, len(v))
	for i, item := range v {
		var err error
		if items[i], err = o.value(item, depth+1); err != nil {
			return payload.Value{}, err
		}
	}
	return payload.ListValue(items), nil
}

func (o *output) object(v map[string]any, depth int) (payload.Value, error) {
	if err := o.spend(len(v)); err != nil {
		return payload.Value{}, err
	}
	var entries payload.Entries
	entries.Grow(len(v))
	for _, key := range slices.Sorted(maps.Keys(v)) {
		if err := o.spend(len(key) + len(`"": `)); err != nil {
			return payload.Value{}, err
		}
		item, err := o.value(v[key], depth+1)
		if err != nil {
			return payload.Value{}, err
		}
		entries.Set(valid(key), item) // two keys may be the same by now
	}
	return entries.Object(), nil
}

// valid returns text as UTF-8: what @base64d makes may be anything.
func valid(text string) string { return strings.ToValidUTF8(text, "\ufffd") }
