package decode

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/twmb/avro"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// agree compares a value with what the Avro library decodes to, which keeps no order.
func agree(v payload.Value, other any) error {
	differ := fmt.Errorf("kind %d beside %T %.80v", v.Kind(), other, other)
	switch o := other.(type) {
	case nil:
		if v.Kind() != payload.Null {
			return differ
		}
	case bool:
		if v.Kind() != payload.Bool || v.Bool() != o {
			return differ
		}
	case int32:
		return agree(v, int64(o))
	case int64:
		if v.Kind() != payload.Int || v.Int() != o {
			return differ
		}
	case float32:
		return agree(v, float64(o))
	case float64:
		if v.Kind() != payload.Float || math.Float64bits(v.Float()) != math.Float64bits(o) && !(math.IsNaN(o) && math.IsNaN(v.Float())) {
			return differ
		}
	case string:
		if v.Kind() != payload.String || v.Text() != o {
			return differ
		}
	case []byte:
		if v.Kind() != payload.Bytes || v.Text() != string(o) {
			return differ
		}
	case []any:
		if v.Kind() != payload.List || v.Len() != len(o) {
			return differ
		}
		for i := range o {
			if err := agree(v.Item(i), o[i]); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
	case map[string]any:
		if v.Kind() != payload.Object || v.Len() != len(o) {
			return differ
		}
		for i := range v.Len() {
			item, ok := o[v.Key(i)]
			if !ok {
				return fmt.Errorf("key %q stands on one side only", v.Key(i))
			}
			if err := agree(v.Item(i), item); err != nil {
				return fmt.Errorf("%s: %w", v.Key(i), err)
			}
		}
	default:
		return differ
	}
	return nil
}

// plainPlan reads with s as for an event that the catalogue does not know: field names are kept and
// datetimes are not respelled.
func plainPlan(t testing.TB, s *Schema) *plan {
	t.Helper()
	p, err := s.compile("", schema.Signal{})
	if err != nil {
		t.Fatal(err)
	}
	p.classes = p.names
	return p
}

func libraryDecode(text string, value []byte) (any, []byte, error) {
	parsed, err := avro.Parse(text, avro.WithLaxNames(nil))
	if err != nil {
		return nil, nil, err
	}
	var out any
	rest, err := parsed.Decode(value, &out)
	return out, rest, err
}

func TestAgreesWithTheLibrary(t *testing.T) {
	t.Parallel()
	check := func(name, text string, value []byte) {
		other, rest, err := libraryDecode(text, value)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%s: the library: %v, %d bytes left", name, err, len(rest))
		}
		v, err := plainPlan(t, mustSchema(t, text)).read(value)
		if err == nil {
			err = agree(v, other)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, f := range parityFixtures(t) {
		if f.Kafka != nil && len(f.Kafka.Value) > 0 {
			check(f.name, string(f.Kafka.Schema), f.Kafka.Value[prefixSize:])
		}
	}
	for _, f := range wireFixtures(t) {
		check(f.name, f.ValueSchema, f.Value[prefixSize:])
	}
	for name, text := range oddSchemas {
		// Some values of each kind, written by the library.
		parsed := avro.MustParse(text, avro.WithLaxNames(nil))
		for i, value := range oddValues[name] {
			encoded, err := parsed.Encode(value)
			if err != nil {
				t.Fatalf("%s %d: %v", name, i, err)
			}
			check(fmt.Sprintf("%s %d", name, i), text, encoded)
		}
	}
}

// oddSchemas hold what the platform's schemas do not.
var oddSchemas = map[string]string{
	"everything": `{"type":"record","name":"R","namespace":"a.b","fields":[
		{"name":"n","type":"null"},{"name":"b","type":"boolean"},{"name":"i","type":"int"},{"name":"l","type":"long"},
		{"name":"f","type":"float"},{"name":"d","type":"double"},{"name":"by","type":"bytes"},{"name":"s","type":"string"},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y","Z"]}},
		{"name":"fx","type":{"type":"fixed","name":"F","size":3}},
		{"name":"a","type":{"type":"array","items":["null","long","string",{"type":"map","values":"E"}]}},
		{"name":"m","type":{"type":"map","values":{"type":"array","items":"F"}}}]}`,
	"recursive": `{"type":"record","name":"Node","namespace":"x","fields":[{"name":"v","type":"long"},
		{"name":"next","type":["null","Node"]},{"name":"all","type":{"type":"array","items":"x.Node"}}]}`,
	"scopes": `{"type":"record","name":"R","namespace":"a","fields":[
		{"name":"one","type":{"type":"record","name":"T","fields":[{"name":"x","type":"long"}]}},
		{"name":"two","type":{"type":"record","name":"b.U","fields":[
			{"name":"t","type":{"type":"record","name":"T","fields":[{"name":"y","type":"string"}]}},
			{"name":"u","type":"T"},{"name":"w","type":"a.T"}]}},
		{"name":"three","type":"T"}]}`,
	"empty items": `{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}},
		{"name":"r","type":{"type":"array","items":{"type":"record","name":"Empty","fields":[]}}}]}`,
	"reference behind": `{"type":"record","name":"R","namespace":"a.b-c","fields":[{"name":"o","type":["null",{"type":"record","name":"D-1",
		"fields":[{"name":"k","type":"string"}]}]},{"name":"p","type":{"type":"map","values":"D-1"}}]}`,
}

var oddValues = map[string][]any{
	"everything": {
		map[string]any{
			"n": nil, "b": true, "i": int32(-5), "l": int64(math.MinInt64), "f": float32(1.5), "d": math.Inf(-1), "by": []byte("a\x00\xff"),
			"s": "é", "e": "Z", "fx": []byte("abc"), "a": []any{nil, int64(7), "t", map[string]any{"k": "X"}},
			"m": map[string]any{"q": []any{[]byte("xyz")}},
		},
	},
	"recursive": {
		map[string]any{
			"v":    int64(1),
			"next": map[string]any{"v": int64(2), "next": nil, "all": []any{}},
			"all":  []any{map[string]any{"v": int64(3), "next": nil, "all": []any{}}},
		},
	},
	"scopes": {
		map[string]any{
			"one":   map[string]any{"x": int64(1)},
			"two":   map[string]any{"t": map[string]any{"y": "1"}, "u": map[string]any{"y": "2"}, "w": map[string]any{"x": int64(4)}},
			"three": map[string]any{"x": int64(5)},
		},
	},
	"empty items": {
		map[string]any{"a": []any{nil, nil}, "r": []any{map[string]any{}}},
	},
	"reference behind": {
		map[string]any{"o": map[string]any{"k": "1"}, "p": map[string]any{"z": map[string]any{"k": "2"}}},
	},
}

// FuzzDecode feeds any bytes to all schemas: nothing panics, and what is decoded is what the
// library decodes.
func FuzzDecode(f *testing.F) {
	texts := []string{}
	for _, name := range []string{"everything", "recursive", "scopes", "empty items", "reference behind"} {
		texts = append(texts, oddSchemas[name])
	}
	seen := map[string]bool{}
	for _, fixture := range wireFixtures(f) {
		if !seen[fixture.ValueSchema] && len(texts) < 40 {
			seen[fixture.ValueSchema] = true
			f.Add(uint8(len(texts)), fixture.Value[prefixSize:])
			texts = append(texts, fixture.ValueSchema)
		}
	}
	f.Add(uint8(1), bytes.Repeat([]byte{2, 2}, 3000))
	f.Add(uint8(3), []byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	type target struct {
		library *avro.Schema
		plan    *plan
	}
	var targets []target
	for _, text := range texts {
		targets = append(targets, target{avro.MustParse(text, avro.WithLaxNames(nil)), plainPlan(f, mustSchema(f, text))})
	}
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		to := targets[int(which)%len(targets)]
		v, err := to.plan.read(value)
		var other any
		rest, otherErr := to.library.Decode(value, &other)
		if err != nil {
			u, ok := AsUndecodable(err)
			if !ok || len(u.Detail) > maxDetail+len("…") {
				t.Fatalf("error %v", err)
			}
			if u.Reason == ReasonCorrupt && otherErr == nil {
				t.Fatalf("the library decodes what is refused: %v", err)
			}
			return
		}
		if otherErr != nil || len(rest) > 0 {
			t.Fatalf("the library does not decode: %v, %d bytes left", otherErr, len(rest))
		}
		if err := agree(v, other); err != nil {
			t.Fatal(err)
		}
		payload.AppendForm(payload.AppendJSON(nil, payload.Redact(v)), v)
	})
}

// FuzzParseSchema: any text is a schema that can be used, or refused.
func FuzzParseSchema(f *testing.F) {
	for _, text := range oddSchemas {
		f.Add(text, []byte{0})
	}
	f.Add(`{"type":"record","name":"A","fields":[{"name":"a","type":"A"}]}`, []byte{0})
	f.Add(`{"type":"record","name":"A","fields":[{"name":"a","type":{"type":"array","items":"A"}}]}`, []byte{2, 2, 0})
	f.Fuzz(func(t *testing.T, text string, value []byte) {
		s, err := ParseSchema(text)
		if err != nil {
			if _, ok := AsUndecodable(err); !ok {
				t.Fatalf("error %v", err)
			}
			return
		}
		if p, err := s.compile("org.openedx.learning.x.v1", schema.Signal{Datetimes: []string{"a.*.b", "a"}}); err == nil {
			_, _ = p.read(value)
		}
	})
}
