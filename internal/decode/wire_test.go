package decode

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// registered reads a captured registry: schemas by id.
func registered(t *testing.T, file string) map[uint32]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var captured struct {
		Subjects map[string][]struct {
			ID     uint32 `json:"id"`
			Schema string `json:"schema"`
		} `json:"subjects"`
	}
	if err := json.Unmarshal(text, &captured); err != nil {
		t.Fatal(err)
	}
	schemas := make(map[uint32]string)
	for _, versions := range captured.Subjects {
		for _, version := range versions {
			schemas[version.ID] = version.Schema
		}
	}
	return schemas
}

// Every record that went through a real Kafka is decoded with the schema that a real registry gave,
// with all values, their order and their size as another reader saw them.
func TestWire(t *testing.T) {
	t.Parallel()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	all := registered(t, "testdata/wire/_registry.json")
	reversed := registered(t, "testdata/wire/_registry-redemption-reversed.json")
	for _, f := range wireFixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			schemas := all
			if strings.Contains(f.Type, "redemption-reversed") {
				schemas = reversed
			}
			if schemas[f.ValueSchemaID] != f.ValueSchema {
				t.Fatalf("the captured registry has another schema %d", f.ValueSchemaID)
			}
			d := newDecoder(t, mustSchema(t, schemas[f.ValueSchemaID]))
			rec := f.record()
			ev, err := d.Envelope(rec)
			if err != nil {
				t.Fatal(err)
			}
			m, err := d.Message(t.Context(), rec, ev)
			if err != nil {
				t.Fatal(err)
			}
			signal, ok := catalogue.ByType(f.Type)
			if !ok {
				t.Fatal("the catalogue does not know the type")
			}
			if m.Data.Len() != 1 || m.Data.Key(0) != signal.Class {
				t.Errorf("class %q, want %q", m.Data.Key(0), signal.Class)
			}
			want, err := payload.ParseJSON(f.Decoded)
			if err != nil {
				t.Fatal(err)
			}
			spelled := respell(want, "", signal.Datetimes)
			field, ok := spelled.Get(signal.Kwarg)
			if !ok {
				t.Fatalf("no field %s", signal.Kwarg)
			}
			same(t, "data", string(payload.AppendJSON(nil, m.Data.Item(0))), string(payload.AppendJSON(nil, field)))
			if body := m.Body(delivery.FormatJSON); !json.Valid(body) || slices.ContainsFunc(body, func(c byte) bool { return c < ' ' || c > '~' }) {
				t.Error("the body is not JSON of printable ASCII")
			}
		})
	}
}

// respell returns v with the texts at the paths spelled as Python's str() of a datetime.
func respell(v payload.Value, path string, paths []string) payload.Value {
	switch v.Kind() {
	case payload.Object:
		var out payload.Entries
		for i := range v.Len() {
			out.Set(v.Key(i), respell(v.Item(i), strings.TrimPrefix(path+"."+v.Key(i), "."), paths))
		}
		return out.Object()
	case payload.String:
		if slices.Contains(paths, path) {
			return payload.StringValue(strings.Replace(v.Text(), "T", " ", 1))
		}
		return v
	default:
		return v
	}
}

// Exact integers: the captured ids lie beyond 2^53, where a double would change them.
func TestWireHasLargeIntegers(t *testing.T) {
	t.Parallel()
	found := 0
	for _, f := range wireFixtures(t) {
		if strings.Contains(string(f.Decoded), "90071992547") {
			found++
		}
	}
	if found < 20 {
		t.Errorf("only %d fixtures hold integers beyond 2^53: TestWire proves too little", found)
	}
}
