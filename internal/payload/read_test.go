package payload_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

var shapes = []payload.Shape{payload.ShapePlugin, payload.ShapeCloudEvents, payload.ShapeStandard}

// What is read back gives the bytes that the event itself gives, in every shape and format.
func TestParseMessage(t *testing.T) {
	t.Parallel()
	eachCaptured(t, func(t *testing.T, c *captured, m *payload.Message) {
		if m == nil { // no record can be made of it: the captured bodies are all there is
			again := parse(t, []byte(c.InProcess.JSON.Body))
			same(t, "JSON", again.Body(delivery.FormatJSON), c.InProcess.JSON.Body)
			same(t, "form", again.Body(delivery.FormatForm), c.InProcess.Form.Body)
			return
		}
		m.Event.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		again := parse(t, m.Body(delivery.FormatJSON))
		if again.Event.Traceparent != "" {
			t.Error("a trace context that is not in the body")
		}
		again.Event.Traceparent = m.Event.Traceparent
		if got, want := again.Event, m.Event; !reflect.DeepEqual(got, want) {
			t.Errorf("event\n got %+v\nwant %+v", got, want)
		}
		same(t, "form", again.Body(delivery.FormatForm), string(m.Body(delivery.FormatForm)))
		for _, s := range shapes {
			want := payload.AppendJSON(nil, m.Shaped(s))
			same(t, s.String(), payload.AppendJSON(nil, again.Shaped(s)), string(want))
		}
	})
}

func parse(t *testing.T, body []byte) *payload.Message {
	t.Helper()
	m, err := payload.ParseMessage(body)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func same(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if string(got) != want {
		t.Errorf("%s\n got %s\nwant %s", what, got, want)
	}
}

const (
	metadata = `{"event_type": "org.openedx.x.v1", "id": "1", "minorversion": 2, "source": "s", "sourcehost": "h", ` +
		`"time": "2023-01-31 20:24:32.976084+00:00", "sourcelib": [11, 2, 0]}`
	whole = `{"a.B": {"n": 1.0, "big": 123456789012345678901234567890}, "event_metadata": ` + metadata + `}`
)

func TestParseMessageFails(t *testing.T) {
	t.Parallel()
	if got := string(parse(t, []byte(whole)).Body(delivery.FormatJSON)); got != whole {
		t.Fatalf("%s, want %s", got, whole)
	}
	for want, body := range map[string]string{
		"parse JSON: no value at offset 0":                                       ``,
		"parse JSON: text after the value at offset 3":                           `{} x`,
		`write an object: {"<class path>": {…}, "event_metadata": {…}}`:          `[1]`,
		"event_metadata: event_type is missing or of the wrong type":             `{"a.B": {}}`,
		"event_metadata: id is missing":                                          strings.Replace(whole, `"id": "1", `, ``, 1),
		"event_metadata: minorversion is missing":                                strings.Replace(whole, `on": 2`, `on": "2"`, 1),
		"event_metadata: sourcelib is missing":                                   strings.Replace(whole, `[11, 2, 0]`, `"11.2.0"`, 1),
		"event_metadata: sourcelib contains something other than 64-bit integer": strings.Replace(whole, `[11, 2, 0]`, `[11, 2.0]`, 1),
		"event_metadata: invalid time":                                           strings.Replace(whole, `2023-01-31`, `31.1.2023`, 1),
	} {
		if m, err := payload.ParseMessage([]byte(body)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, %v; want the error %s…", body, m, err, want)
		}
	}
}

// What people leave out is taken from the defaults.
func TestReadMessage(t *testing.T) {
	t.Parallel()
	defaults := event.Event{
		Type: "t", ID: "i", Source: "s", SourceHost: "h", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), MinorVersion: 3,
		SourceLib: []int64{1},
	}
	two, late := []int64{2, 3}, 1500*time.Millisecond
	for body, change := range map[string]func(e *event.Event){
		`{"a.B": {}}`:                       func(*event.Event) {},
		`{"a.B": {}, "event_metadata": {}}`: func(*event.Event) {},
		`{"a.B": {}, "event_metadata": {"id": "other", "sourcelib": [2, 3]}}`:     func(e *event.Event) { e.ID, e.SourceLib = "other", two },
		`{"a.B": {}, "event_metadata": {"id": 7, "minorversion": 4}}`:             func(e *event.Event) { e.MinorVersion = 4 },
		`{"a.B": {}, "event_metadata": {"time": "2026-01-02T04:04:06.5+01:00"}}`:  func(e *event.Event) { e.Time = e.Time.Add(late) },
		`{"event_metadata": {"source": "", "sourcehost": "x"}, "a.B": {}}`:        func(e *event.Event) { e.Source, e.SourceHost = "", "x" },
		`{"a.B": {}, "event_metadata": {"event_type": "org.x.v1", "what": null}}`: func(e *event.Event) { e.Type = "org.x.v1" },
	} {
		want := defaults
		change(&want)
		m, err := payload.ReadMessage([]byte(body), defaults)
		if err != nil || !reflect.DeepEqual(m.Event, want) || m.Data.Len() != 1 || m.Data.Key(0) != "a.B" {
			t.Errorf("%s: %+v, %v; want %+v", body, m, err, want)
		}
	}
	for want, body := range map[string]string{
		"parse JSON: ":                 `{`,
		"write an object: ":            `1`,
		"event_metadata: invalid time": `{"event_metadata": {"time": 5}}`,
	} {
		if _, err := payload.ReadMessage([]byte(body), defaults); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want the error %s…", body, err, want)
		}
	}
}

// Nothing panics, and what is read has bodies that are read as the same.
func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(`{"a.B": {"_x": 1, "token": 1, "l": [NaN, "\ud800"]}, "a.C": [], "event_metadata": ` + metadata + `}`))
	f.Add([]byte(`{"event_metadata": ` + metadata + `, "x": ` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := payload.ParseMessage(text)
		if err != nil {
			return
		}
		body := m.Body(delivery.FormatJSON)
		again, err := payload.ParseMessage(body)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		same(t, "JSON", again.Body(delivery.FormatJSON), string(body))
		same(t, "form", again.Body(delivery.FormatForm), string(m.Body(delivery.FormatForm)))
		for _, s := range shapes {
			shaped := payload.AppendJSON(nil, m.Shaped(s))
			same(t, s.String(), payload.AppendJSON(nil, again.Shaped(s)), string(shaped))
			if s != payload.ShapePlugin && !json.Valid(shaped) {
				t.Errorf("%s is no JSON: %s", s, shaped)
			}
		}
	})
}
