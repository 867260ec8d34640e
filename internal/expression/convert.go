package expression

import (
	"encoding/json"
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

// toJQ returns v as gojq knows it. Events hold no Bytes once they are redacted; other Bytes become
// text.
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
	case payload.String, payload.Bytes:
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

// checkOutput returns an error where a result is too large: a small one in gojq, which shares its
// parts, may be huge in JSON. What is counted is never more than what is written in the end.
func checkOutput(v any) error {
	switch left := weigh(v, MaxOutput, 1, maxDepth); {
	case left == tooDeep:
		return fmt.Errorf("the transform failed: the result is nested deeper than %d", maxDepth)
	case left < 0:
		return fmt.Errorf("the transform failed: the result has more than %d bytes as JSON", MaxOutput)
	}
	return nil
}

// fromJQ returns a result of gojq, with its keys sorted.
func fromJQ(v any) payload.Value {
	switch v := v.(type) {
	case bool:
		return payload.BoolValue(v)
	case int:
		return payload.IntValue(int64(v))
	case float64:
		return float(v)
	case *big.Int:
		return payload.BigValue(v.String())
	case json.Number:
		if n, ok := new(big.Int).SetString(v.String(), 10); ok {
			return payload.BigValue(n.String())
		}
		f, _ := v.Float64() // infinite where it is too large
		return float(f)
	case string:
		return payload.StringValue(valid(v))
	case []any:
		items := make([]payload.Value, len(v))
		for i, item := range v {
			items[i] = fromJQ(item)
		}
		return payload.ListValue(items)
	case map[string]any:
		var entries payload.Entries
		entries.Grow(len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			entries.Set(valid(key), fromJQ(v[key])) // two keys may be the same by now
		}
		return entries.Object()
	default:
		return payload.Value{}
	}
}

// float keeps a number a float. What JSON has no spelling for becomes what jq prints of it.
func float(f float64) payload.Value {
	if math.IsNaN(f) {
		return payload.Value{}
	}
	return payload.FloatValue(min(max(f, -math.MaxFloat64), math.MaxFloat64))
}

// valid returns text as UTF-8: what @base64d makes may be anything.
func valid(text string) string { return strings.ToValidUTF8(text, "\ufffd") }
