package expression

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// A value comes back from gojq as it went in, with its keys sorted.
func FuzzRoundTrip(f *testing.F) {
	for _, text := range []string{
		`null`, `true`, `0`, `-1`, `1.0`, `-0.0`, `1e300`, `5e-324`, `123456789012345678901234567890`, `-9223372036854775809`,
		`9223372036854775807`, `""`,
		`"é\u0000😀"`, `[]`, `{}`, `[[], {}, [null]]`, `{"b": 1, "a": {"d": [1.5], "c": null}, "": 0}`, `NaN`, `Infinity`, `[-Infinity]`, userData,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := payload.ParseJSON(text)
		if err != nil {
			return
		}
		left := weigh(toJQ(v), MaxOutput, 1, maxDepth)
		if left < 0 {
			return // too deep
		}
		got := fromJQ(toJQ(v))
		want := string(payload.AppendJSON(nil, inJQ(v)))
		if got := string(payload.AppendJSON(nil, got)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if written := len(want); MaxOutput-left > written {
			t.Errorf("%d bytes were counted of a text of %d", MaxOutput-left, written)
		}
	})
}

// inJQ returns what is left of a value in jq: sorted, and without numbers that JSON has not.
func inJQ(v payload.Value) payload.Value {
	switch v.Kind() {
	case payload.Float:
		return float(v.Float())
	case payload.List:
		items := make([]payload.Value, v.Len())
		for i := range items {
			items[i] = inJQ(v.Item(i))
		}
		return payload.ListValue(items)
	case payload.Object:
		keys := make([]string, v.Len())
		for i := range keys {
			keys[i] = v.Key(i)
		}
		slices.Sort(keys)
		items := make([]payload.Value, len(keys))
		for i, key := range keys {
			item, _ := v.Get(key)
			items[i] = inJQ(item)
		}
		return payload.ObjectValue(keys, items)
	default:
		return v
	}
}

// Whatever is written as an expression compiles or is refused, soon and without a panic, and what compiles runs to an end. What makes
// results double and double again is left out: see the package comment.
func FuzzCompile(f *testing.F) {
	for _, place := range places {
		f.Add(strings.Replace(place, "X", "$data.id", 1))
		f.Add(strings.Replace(place, "X", "env", 1))
	}
	f.Add(`"/w==" | @base64d`)
	for expression := range tooLarge {
		f.Add(expression)
	}
	f.Add(typicalFilter)
	f.Add(typicalTransform)
	f.Add(strings.Repeat("(", 8000))
	f.Add(strings.Repeat("[", 4000) + strings.Repeat("]", 4000))
	f.Add(strings.Repeat("def f: ", 1000) + "1" + strings.Repeat("; f", 1000))
	f.Add(strings.Repeat("-", 8000) + "1")
	f.Add(strings.Repeat(".a", 8000))
	m := message(f, userData)
	f.Fuzz(func(t *testing.T, text string) {
		begin := time.Now()
		p, err := Compile(text, payload.Value{})
		if err != nil {
			return
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("compiling took %v", took)
		}
		for _, loop := range []string{"reduce", "foreach", "def", "recurse", "repeat", "while", "until", "limit", "combinations"} {
			if strings.Contains(text, loop) {
				return
			}
		}
		if v, err := p.Apply(t.Context(), NewInput(m)); err == nil && v.Kind() == payload.String && !utf8.ValidString(v.Text()) {
			t.Errorf("%q is not UTF-8", v.Text())
		}
		_, _ = p.Test(t.Context(), NewInput(m))
	})
}
