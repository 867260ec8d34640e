package payload

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"
)

// pythonCase is what testdata/python.py captured from Python and the real plugin.
type pythonCase struct {
	Value     json.RawMessage `json:"value"`
	JSON      string          `json:"json"`     // json.dumps(value, default=str)
	Form      string          `json:"form"`     // flatten_dict, then encoded by requests
	Redacted  string          `json:"redacted"` // object_serializer and redact_sensitive_fields
	Fields    []string        `json:"fields"`   // keys of value that are fields of a data class
	Event     string          `json:"event"`    // an event with an instance of that class
	EventForm string          `json:"event_form"`
}

func pythonCases(t testing.TB) []pythonCase {
	t.Helper()
	name := "testdata/python_cases.jsonl"
	if other := os.Getenv("PYTHON_CASES"); other != "" {
		name = other // a larger run of testdata/python.py
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var cases []pythonCase
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var c pythonCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	return cases
}

// untag reads a value as testdata/python.py spells it.
func untag(text json.RawMessage) (Value, error) {
	switch string(text) {
	case "null":
		return Value{}, nil
	case "true", "false":
		return BoolValue(text[0] == 't'), nil
	}
	var parts [2]json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return Value{}, err
	}
	var kind, s string
	if err := json.Unmarshal(parts[0], &kind); err != nil {
		return Value{}, err
	}
	if kind != "list" && kind != "dict" {
		if err := json.Unmarshal(parts[1], &s); err != nil {
			return Value{}, err
		}
	}
	switch kind {
	case "int":
		return BigValue(s), nil
	case "float":
		bits, err := strconv.ParseUint(s, 16, 64)
		return FloatValue(math.Float64frombits(bits)), err
	case "str":
		return StringValue(s), nil
	case "bytes":
		raw, err := hex.DecodeString(s)
		return BytesValue(string(raw)), err
	case "list":
		var texts []json.RawMessage
		if err := json.Unmarshal(parts[1], &texts); err != nil {
			return Value{}, err
		}
		items := make([]Value, len(texts))
		for i, text := range texts {
			var err error
			if items[i], err = untag(text); err != nil {
				return Value{}, err
			}
		}
		return ListValue(items), nil
	case "dict":
		var texts [][2]json.RawMessage
		if err := json.Unmarshal(parts[1], &texts); err != nil {
			return Value{}, err
		}
		var o Entries
		for _, entry := range texts {
			var key string
			if err := json.Unmarshal(entry[0], &key); err != nil {
				return Value{}, err
			}
			item, err := untag(entry[1])
			if err != nil {
				return Value{}, err
			}
			o.Set(key, item)
		}
		return o.Object(), nil
	}
	return Value{}, fmt.Errorf("unknown kind %q", kind)
}

func TestSpellsWhatPythonSpells(t *testing.T) {
	t.Parallel()
	for i, c := range pythonCases(t) {
		v, err := untag(c.Value)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if got := string(AppendJSON(nil, v)); got != c.JSON {
			t.Errorf("case %d: JSON\n got %s\nwant %s", i, got, c.JSON)
		}
		if got := string(AppendForm(nil, v)); got != c.Form {
			t.Errorf("case %d: form\n got %s\nwant %s", i, got, c.Form)
		}
		if got := string(appendFormMerged(nil, v)); got != c.Form {
			t.Errorf("case %d: form, slow way\n got %s\nwant %s", i, got, c.Form)
		}
		if got := string(AppendJSON(nil, Redact(v))); got != c.Redacted {
			t.Errorf("case %d: redacted\n got %s\nwant %s", i, got, c.Redacted)
		}
		var fields Entries
		for _, key := range c.Fields {
			item, _ := v.Get(key)
			fields.Set(key, item)
		}
		event := ObjectValue([]string{"module.Data"}, []Value{redactData(fields.Object())})
		if got := string(AppendJSON(nil, event)); got != c.Event {
			t.Errorf("case %d: event\n got %s\nwant %s", i, got, c.Event)
		}
		if got := string(AppendForm(nil, event)); got != c.EventForm {
			t.Errorf("case %d: event form\n got %s\nwant %s", i, got, c.EventForm)
		}
		if bytes.Contains(AppendJSON(nil, v), []byte{0x7f}) {
			t.Errorf("case %d: JSON is not printable ASCII", i)
		}
		back, err := ParseJSON([]byte(c.JSON))
		if err != nil {
			t.Errorf("case %d: parse: %v", i, err)
		} else if got := string(AppendJSON(nil, back)); got != c.JSON {
			t.Errorf("case %d: parsed and spelled again\n got %s\nwant %s", i, got, c.JSON)
		}
	}
}
