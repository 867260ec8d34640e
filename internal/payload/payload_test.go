package payload

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

func object(pairs ...any) Value {
	var o Entries
	for i := 0; i < len(pairs); i += 2 {
		o.Set(pairs[i].(string), pairs[i+1].(Value))
	}
	return o.Object()
}

func list(items ...Value) Value { return ListValue(items) }

// The request that the plugin made of values chosen for their spelling.
func TestEncoderEdgeCases(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/encoder_edge_cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var captured map[string]struct{ Body string }
	if err := json.Unmarshal(text, &captured); err != nil {
		t.Fatal(err)
	}
	s := StringValue
	v := object(
		"none", Value{}, "true", BoolValue(true), "int", IntValue(1), "big", BigValue("10000000000000000000000000"), "float", FloatValue(0.1),
		"f1", FloatValue(1), "fe", FloatValue(1e16), "fs", FloatValue(1e-7), "nan", FloatValue(math.NaN()), "inf", FloatValue(math.Inf(1)),
		"text", s("Andrés \"Q\" O'Neil <a&b=c+d/e> \\ tab\tnl\n 😀 \u200b \x7f"),
		"dt", s(Datetime(time.Date(2023, 1, 31, 20, 28, 10, 976_084_999, time.UTC))),
		"dts", s(Datetime(time.Date(2023, 1, 31, 21, 28, 10, 999, time.FixedZone("", 3600)))),
		"uuid", s("457f0c26-a1a5-11ed-afe6-0242ac140007"), "ck", s("course-v1:edX+DemoX+Demo_Course"), "tuple", list(IntValue(1), s("a")),
		"list", list(IntValue(1), Value{}, BoolValue(true), FloatValue(1.5), s("it's"), s(`a"b`), s(`a'"b`), s("café"), s("\u200b\x7f\n"),
			object("k", list(IntValue(1), object("z", Value{})))),
		"empty_list", list(), "empty_dict", object(),
		"nested", object("a", object("b", object("c", IntValue(1))), "password", s("x"), "tokens", s("kept")),
		"bytes", BytesValue("ab\x00"), "Token", s("x"), "5", s("intkey"),
	)
	for name, format := range map[string]delivery.Format{"json": delivery.FormatJSON, "form": delivery.FormatForm} {
		got := Encode(Redact(v), format)
		if want := captured[name].Body; string(got) != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestForm(t *testing.T) {
	t.Parallel()
	one, two, three := IntValue(1), IntValue(2), IntValue(3)
	many := make([]any, 0, 400)
	var want strings.Builder
	for i := range 200 {
		key := "k" + strings.Repeat("x", i)
		many = append(many, key, one)
		if i > 0 {
			want.WriteByte('&')
		}
		want.WriteString(key + "=1")
	}
	again := append(append([]any{}, many...), "k", two)
	nested := append(append([]any{}, many...), "", object("k", two)) // joins to k, which is there already
	for name, test := range map[string]struct {
		v    Value
		want string
	}{
		"nothing":                       {object(), ""},
		"no object":                     {list(one), ""},
		"empty objects are nothing":     {object("a", object(), "b", object("c", object()), "d", one), "d=1"},
		"empty text":                    {object("a", StringValue("")), "a="},
		"empty key":                     {object("", one), "=1"},
		"nothing joins to an empty key": {object("", object("a", one, "", object("b", two))), "a=1&b=2"},
		"empty keys further down":       {object("a", object("", object("b", one))), "a__b=1"},
		"keys that join to the same":    {object("a", object("b", one), "x", three, "a_b", two), "a_b=2&x=3"},
		"three of the same":             {object("a", object("b", object("c", one)), "a_b", object("c", two), "a_b_c", three), "a_b_c=3"},
		"many":                          {object(many...), want.String()},
		"many, set again":               {object(again...), strings.Replace(want.String(), "k=1", "k=2", 1)},
		"many, one joined":              {object(nested...), strings.Replace(want.String(), "k=1", "k=2", 1)},
		"key quoted":                    {object("a b", object("é&", one)), "a+b_%C3%A9%26=1"},
	} {
		if got := string(AppendForm([]byte("before"), test.v)); got != "before"+test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestRedactCopiesOnlyWhatChanges(t *testing.T) {
	t.Parallel()
	kept := object("tokens", StringValue("kept"), "list", list(object("a", IntValue(1))))
	if got := Redact(kept); got != kept {
		t.Error("a copy was made of a value that nothing is dropped from")
	}
	v := object("kept", kept, "Password", StringValue("x"), "after", IntValue(1))
	before := string(AppendJSON(nil, v))
	got := Redact(v)
	if want := `{"kept": {"tokens": "kept", "list": [{"a": 1}]}, "after": 1}`; string(AppendJSON(nil, got)) != want {
		t.Errorf("%s, want %s", AppendJSON(nil, got), want)
	}
	if got.Item(0) != kept {
		t.Error("the part that did not change was copied")
	}
	if string(AppendJSON(nil, v)) != before {
		t.Error("the value was changed")
	}
}

func testMessage() *Message {
	user := object("id", IntValue(4), "pii", object("username", StringValue("andrés"), "token", StringValue("x")))
	return &Message{
		Event: event.Event{
			Type: "org.openedx.learning.x.v1", ID: "457f0c26", Source: "openedx/lms/web", SourceHost: "host", MinorVersion: 2,
			Time: time.Date(2023, 1, 31, 20, 24, 32, 0, time.UTC), SourceLib: []int64{11, 2, 0},
		},
		Data: object("openedx_events.learning.data.UserData", user),
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	m := testMessage()
	const wantJSON = `{"openedx_events.learning.data.UserData": {"id": 4, "pii": {"username": "andr\u00e9s"}}, "event_metadata": ` +
		`{"event_type": "org.openedx.learning.x.v1", "id": "457f0c26", "minorversion": 2, "source": "openedx/lms/web", "sourcehost": "host", ` +
		`"time": "2023-01-31 20:24:32+00:00", "sourcelib": [11, 2, 0]}}`
	if got := string(m.Body(delivery.FormatJSON)); got != wantJSON {
		t.Errorf("JSON\n got %s\nwant %s", got, wantJSON)
	}
	const wantForm = `openedx_events.learning.data.UserData_id=4&openedx_events.learning.data.UserData_pii_username=andr%C3%A9s&` +
		`event_metadata_event_type=org.openedx.learning.x.v1&event_metadata_id=457f0c26&event_metadata_minorversion=2&` +
		`event_metadata_source=openedx%2Flms%2Fweb&event_metadata_sourcehost=host&event_metadata_time=2023-01-31+20%3A24%3A32%2B00%3A00&` +
		`event_metadata_sourcelib=%5B11%2C+2%2C+0%5D`
	if got := string(m.Body(delivery.FormatForm)); got != wantForm {
		t.Errorf("form\n got %s\nwant %s", got, wantForm)
	}
	if _, ok := m.Data.Item(0).Item(1).Get("token"); !ok {
		t.Error("the message was changed")
	}
}

// A String made of text that is no UTF-8 is a mistake elsewhere, and still gives a body that can be
// sent.
func TestInvalidUTF8(t *testing.T) {
	t.Parallel()
	v := object("a\xff", list(StringValue("\xed\xa0\x80")))
	if got, want := string(AppendJSON(nil, v)), `{"a\ufffd": ["\ufffd\ufffd\ufffd"]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := AppendForm(nil, v); len(got) == 0 {
		t.Error("no form")
	}
}

func TestBuilder(t *testing.T) {
	t.Parallel()
	var b Builder
	all := make([]Value, 0, 200)
	for n := range 40 {
		items := b.Items(n)
		keys := make([]string, n)
		for i := range items {
			if items[i] != (Value{}) {
				t.Fatal("memory handed out twice")
			}
			items[i], keys[i] = IntValue(int64(n)), strings.Repeat("k", i)
		}
		_ = append(items, StringValue("beyond")) // must not reach the next one's memory
		all = append(all, b.Object(keys, items), b.List(items))
	}
	for i, v := range all {
		if n := i / 2; v.Len() != n || n > 0 && v.Item(n-1).Int() != int64(n) {
			t.Fatalf("value %d has %d items", i, v.Len())
		}
	}
}

func TestObjectPanicsOnAMistake(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"value":   func() { ObjectValue([]string{"a"}, nil) },
		"builder": func() { new(Builder).Object(nil, []Value{{}}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkRedact(b *testing.B) {
	m := testMessage()
	b.ReportAllocs()
	for b.Loop() {
		Redact(m.Data)
	}
}
