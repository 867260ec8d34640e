package decode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// long spells a number as Avro does.
func long(n int64) []byte { return binary.AppendVarint(nil, n) }

func text(s string) []byte { return append(long(int64(len(s))), s...) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// one is a record with one field of the type.
func one(fieldType string) string {
	return `{"type":"record","name":"CloudEvent","namespace":"n","fields":[{"name":"f","type":` + fieldType + `}]}`
}

func decodeJSON(t *testing.T, schemaText, eventType string, value []byte) (string, error) {
	t.Helper()
	d := newDecoder(t, mustSchema(t, schemaText))
	rec := bus.NewRecord("topic", 0, 0)
	rec.Value = framed(7, value)
	m, err := d.Message(t.Context(), rec, event.Event{Type: eventType})
	if err != nil {
		return "", err
	}
	return string(payload.AppendJSON(nil, m.Data)), nil
}

func TestUndecodableValues(t *testing.T) {
	t.Parallel()
	const (
		array   = `{"type":"array","items":"long"}`
		doubles = `{"type":"array","items":"double"}`
		empties = `{"type":"array","items":"null"}`
		maps    = `{"type":"map","values":"long"}`
		deep    = `{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}`
		endless = `{"type":"record","name":"N","fields":[{"name":"next","type":"N"}]}`
	)
	wide := `{"type":"array","items":{"type":"record","name":"W","fields":[{"name":"b","type":"boolean"}`
	for i := range 100 { // a hundred fields that take no bytes
		wide += fmt.Sprintf(`,{"name":"n%d","type":"null"}`, i)
	}
	wide += `]}}`
	for name, test := range map[string]struct {
		fieldType string
		value     []byte
		want      Reason
	}{
		"too short":                {`"string"`, []byte{}, ReasonCorrupt},
		"string cut off":           {`"string"`, []byte{10, 'a', 'b'}, ReasonCorrupt},
		"negative length":          {`"string"`, long(-1), ReasonCorrupt},
		"length of 2^62":           {`"string"`, long(1 << 62), ReasonCorrupt},
		"length of -2^63":          {`"bytes"`, long(math.MinInt64), ReasonCorrupt},
		"number of eleven bytes":   {`"long"`, bytes.Repeat([]byte{0xff}, 11), ReasonCorrupt},
		"number beyond 64 bits":    {`"long"`, append(bytes.Repeat([]byte{0xff}, 9), 2), ReasonCorrupt},
		"int beyond 32 bits":       {`"int"`, long(1 << 31), ReasonCorrupt},
		"double cut off":           {`"double"`, make([]byte, 7), ReasonCorrupt},
		"fixed cut off":            {`{"type":"fixed","name":"F","size":4}`, make([]byte, 3), ReasonCorrupt},
		"branch 2 of 2":            {`["null","long"]`, long(2), ReasonCorrupt},
		"branch -1":                {`["null","long"]`, long(-1), ReasonCorrupt},
		"symbol 1 of 1":            {`{"type":"enum","name":"E","symbols":["A"]}`, long(1), ReasonCorrupt},
		"array without an end":     {array, long(1), ReasonCorrupt},
		"array of 2^62":            {array, long(1 << 62), ReasonCorrupt},
		"array of -2^63":           {array, join(long(math.MinInt64), long(0)), ReasonCorrupt},
		"doubles beyond the value": {doubles, join(long(2), make([]byte, 15)), ReasonCorrupt},
		"nulls beyond the limit":   {empties, join(long(maxEmptyItems+1), long(0)), ReasonCorrupt},
		"nulls in many blocks":     {empties, bytes.Repeat(long(maxEmptyItems-1), 2), ReasonCorrupt},
		"map of 2^62":              {maps, long(1 << 62), ReasonCorrupt},
		"nested 2000 deep":         {deep, bytes.Repeat(long(1), 2000), ReasonTooLarge},
		"nested without end":       {endless, nil, ReasonTooLarge},
		"records of nothing":       {wide, join(long(20_000), make([]byte, 20_000), long(0)), ReasonTooLarge},
		"string not UTF-8":         {`"string"`, text("a\xff"), ReasonInvalidUTF8},
		"surrogate":                {`"string"`, text("\xed\xa0\x80"), ReasonInvalidUTF8},
		"map key not UTF-8":        {maps, join(long(1), text("\xc0\x80"), long(0), long(0)), ReasonInvalidUTF8},
		"one byte left":            {`"long"`, join(long(1), []byte{0}), ReasonTrailingBytes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeJSON(t, one(test.fieldType), "x", test.value)
			u, ok := AsUndecodable(err)
			if !ok || u.Reason != test.want {
				t.Fatalf("%s, %v; want %s", got, err, test.want)
			}
			if len(u.Detail) > maxDetail {
				t.Errorf("detail of %d bytes", len(u.Detail))
			}
		})
	}
}

// Learners' data never gets into an error, not even the key of a map.
func TestErrorsHoldNoData(t *testing.T) {
	t.Parallel()
	schemaText := one(`{"type":"record","name":"Data","fields":[{"name":"name","type":"string"},
		{"name":"m","type":{"type":"map","values":{"type":"array","items":"string"}}}]}`)
	value := join(text("secretive"), long(1), text("secretive"), long(2), text("secretive"), []byte{40, 's'})
	_, err := decodeJSON(t, schemaText, "x", value)
	if err == nil || strings.Contains(err.Error(), "secretive") || !strings.Contains(err.Error(), "f.m.*.*: ") {
		t.Errorf("error %v", err)
	}
}

func TestBadSchemas(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON":        `{`,
		"empty":          ``,
		"no record":      `"string"`,
		"union":          `["null","string"]`,
		"unknown type":   one(`"Nowhere"`),
		"no items":       one(`{"type":"array"}`),
		"nested forever": one(strings.Repeat(`{"type":"array","items":`, 5000) + `"long"` + strings.Repeat(`}`, 5000)),
	} {
		_, err := ParseSchema(text)
		u, ok := AsUndecodable(err)
		if !ok || u.Reason != ReasonBadSchema || len(u.Detail) > maxDetail+len("…") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownEventTypes(t *testing.T) {
	t.Parallel()
	data := `{"type":"record","name":"NewData","fields":[{"name":"start","type":"string"}]}`
	moment := text("2023-01-31T20:28:10+00:00")
	const want = `{"start": "2023-01-31T20:28:10+00:00"}`
	const inC = `{"openedx_events.c.data.NewData": ` + want + `}`
	for name, test := range map[string]struct {
		schema, eventType string
		value             []byte
		want              string
	}{
		"third segment": {
			one(data), "org.openedx.learning.new.v1", moment, `{"openedx_events.learning.data.NewData": ` + want + `}`,
		},
		"two segments":      {one(data), "a.b", moment, `{"openedx_events.data.NewData": ` + want + `}`},
		"three segments":    {one(data), "a.b.c", moment, inC},
		"namespaced record": {one(strings.Replace(data, "NewData", "q.NewData", 1)), "a.b.c.d", moment, inC},
		"optional":          {one(`["null",` + data + `]`), "a.b.c.d", join(long(1), moment), inC},
		"no record":         {one(`"string"`), "a.b.c.d", text("x"), `{"f": "x"}`},
		"several": {
			`{"type":"record","name":"CloudEvent","namespace":"n","fields":[{"name":"f","type":` + data + `},{"name":"g","type":"NewData"},
				{"name":"h","type":"long"},{"name":"i","type":{"type":"record","name":"Other","fields":[]}}]}`,
			"org.openedx.learning.x", join(moment, moment, long(-7)),
			`{"openedx_events.learning.data.NewData": ` + want + `, "g": ` + want + `, "h": -7, "openedx_events.learning.data.Other": {}}`,
		},
		"nothing": {`{"type":"record","name":"CloudEvent","fields":[]}`, "a.b.c", nil, `{}`},
	} {
		got, err := decodeJSON(t, test.schema, test.eventType, test.value)
		if err != nil || got != test.want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, test.want)
		}
	}
}

// A known event with a schema of another release: the class is the catalogue's, new fields stay
// where they are.
func TestKnownEventWithAnotherSchema(t *testing.T) {
	t.Parallel()
	schemaText := `{"type":"record","name":"CloudEvent","namespace":"n","fields":[
		{"name":"enrollment","type":{"type":"record","name":"Renamed","fields":[
			{"name":"added","type":"string"},
			{"name":"creation_date","type":["null","string"]},
			{"name":"course","type":{"type":"record","name":"C","fields":[{"name":"start","type":"string"},{"name":"end","type":"long"}]}},
			{"name":"other","type":"C"}]}},
		{"name":"extra","type":"C"}]}`
	moment := text("2023-01-31T20:28:10.976084+00:00")
	got, err := decodeJSON(t, schemaText, knownType, join(moment, long(1), moment, moment, long(1), moment, long(2), moment, long(3)))
	const want = `{"openedx_events.learning.data.CourseEnrollmentData": {"added": "2023-01-31T20:28:10.976084+00:00", ` +
		`"creation_date": "2023-01-31 20:28:10.976084+00:00", "course": {"start": "2023-01-31 20:28:10.976084+00:00", "end": 1}, ` +
		`"other": {"start": "2023-01-31T20:28:10.976084+00:00", "end": 2}}, ` +
		`"openedx_events.learning.data.C": {"start": "2023-01-31T20:28:10.976084+00:00", "end": 3}}`
	if err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

func TestDatetimesInListsAndMaps(t *testing.T) {
	t.Parallel()
	s := mustSchema(t, one(`{"type":"map","values":{"type":"array","items":["null","string"]}}`))
	p, err := s.compile("x", schema.Signal{Datetimes: []string{"f.*.*"}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.read(join(long(1), text("k"), long(1), long(1), text("2023-01-31T20:28:10"), long(0), long(0)))
	if got := string(payload.AppendJSON(nil, v)); err != nil || got != `{"f": {"k": ["2023-01-31 20:28:10"]}}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestPythonDatetime(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"2023-01-31T20:28:10.976084+00:00": "2023-01-31 20:28:10.976084+00:00",
		"2023-01-31T20:28:10":              "2023-01-31 20:28:10",
		"0001-01-01T00:00:00-05:30":        "0001-01-01 00:00:00-05:30",
		"2023-01-31 20:28:10+00:00":        "2023-01-31 20:28:10+00:00",
		"2023-01-31T20:28":                 "2023-01-31T20:28",
		"2023-1-31T020:28:10":              "2023-1-31T020:28:10",
		"not a date T but text":            "not a date T but text",
		"ABCD-EF-GHTIJ:KL:MN":              "ABCD-EF-GHTIJ:KL:MN",
		"":                                 "",
	} {
		if got := pythonDatetime(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// A repeated key of a map is what Python's dict makes of it: the last value at the first place.
func TestRepeatedMapKeys(t *testing.T) {
	t.Parallel()
	value := join(long(2), text("b"), long(1), text("a"), long(2), long(-1), long(9), text("b"), long(3), long(0))
	got, err := decodeJSON(t, one(`{"type":"map","values":"long"}`), "x", value)
	if want := `{"f": {"b": 3, "a": 2}}`; err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// Event types come from headers: a schema keeps no more plans than the limit, and still reads all
// of them.
func TestPlansAreBounded(t *testing.T) {
	t.Parallel()
	s := mustSchema(t, one(`"long"`))
	d := newDecoder(t, s)
	rec := bus.NewRecord("topic", 0, 0)
	rec.Value = framed(1, long(1))
	for i := range 2 * maxPlans {
		if _, err := d.Message(t.Context(), rec, event.Event{Type: strings.Repeat("x", i+1)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.count.Load(); got != maxPlans {
		t.Errorf("%d plans, want %d", got, maxPlans)
	}
}
