package payload_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The CloudEvents SDK reads what is sent of every captured event, finds nothing to complain of, and
// sees what the event says.
func TestCloudEvents(t *testing.T) {
	t.Parallel()
	eachCaptured(t, func(t *testing.T, c *captured, m *payload.Message) {
		if m == nil {
			m = parse(t, []byte(c.InProcess.JSON.Body))
		}
		for _, traceparent := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} {
			m.Event.Traceparent = traceparent
			checkCloudEvent(t, m)
		}
	})
}

func checkCloudEvent(t *testing.T, m *payload.Message) {
	t.Helper()
	body := payload.Encode(m.Shaped(payload.ShapeCloudEvents), delivery.FormatCloudEvents)
	var got cloudevents.Event
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("%v in %s", err, body)
	}
	e := &m.Event
	if got.SpecVersion() != "1.0" || got.ID() != e.ID || got.Source() != e.Source || got.Type() != e.Type || !got.Time().Equal(e.Time) ||
		got.DataContentType() != "application/json" || got.DataSchema() != "" || got.Subject() != "" {
		t.Errorf("attributes\n got %s\nwant %+v", got.Context, *e)
	}
	want := map[string]any{"minorversion": int32(e.MinorVersion)}
	if e.SourceHost != "" {
		want["sourcehost"] = e.SourceHost
	}
	if len(e.SourceLib) > 0 {
		want["sourcelib"] = strings.ReplaceAll(strings.Trim(string(payload.AppendJSON(nil, metadataOf(m, "sourcelib"))), "[]"), ", ", ".")
	}
	if e.Traceparent != "" {
		want["traceparent"] = e.Traceparent
	}
	for name, value := range got.Extensions() {
		if want[name] != value {
			t.Errorf("extension %s is %v (%T), want %v", name, value, value, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("extensions %v are missing", want)
	}
	data := payload.AppendJSON(nil, payload.Data(m.Payload()))
	if !bytes.Equal(bytes.TrimSpace(got.Data()), data) || len(data) < 2 || data[0] != '{' {
		t.Errorf("data\n got %s\nwant %s", got.Data(), data)
	}
}

func metadataOf(m *payload.Message, key string) payload.Value {
	all, _ := m.Payload().Get(payload.MetadataKey)
	v, _ := all.Get(key)
	return v
}

func shapedMessage() *payload.Message {
	data := payload.ObjectValue([]string{"id", "token", "name", "when", "score"}, []payload.Value{
		payload.IntValue(4), payload.StringValue("secret"), payload.StringValue("andrés"),
		payload.StringValue("2023-01-31 20:24:32+00:00"), payload.FloatValue(1),
	})
	return &payload.Message{
		Event: event.Event{
			Type: "org.openedx.learning.x.v1", ID: "457f0c26", Source: "openedx/lms/web", SourceHost: "host", MinorVersion: 2,
			Time: time.Date(2023, 1, 31, 20, 24, 32, 976_084_999, time.UTC), SourceLib: []int64{11, 2, 0},
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		},
		Data: payload.ObjectValue([]string{"openedx_events.learning.data.UserData"}, []payload.Value{data}),
	}
}

// The bodies of all shapes, byte for byte: as the event gives them, and with the result of a
// transform.
func TestShapesGolden(t *testing.T) {
	t.Parallel()
	m := shapedMessage()
	result := payload.ObjectValue([]string{"text"}, []payload.Value{payload.StringValue("é")})
	for _, s := range shapes {
		body := append(payload.AppendJSON(nil, m.Shaped(s)), '\n')
		body = append(payload.AppendJSON(body, m.Wrap(s, result)), '\n')
		file := "testdata/shape_" + s.String() + ".golden"
		if *update {
			if err := os.WriteFile(file, body, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		same(t, s.String(), body, string(want))
	}
}

// Events that nobody sends, but that must not become CloudEvents that nobody takes.
func TestOddCloudEvents(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"":                      "openedx",
		"openedx/lms/web":       "openedx/lms/web",
		"/openedx/cms":          "/openedx/cms",
		"https://x.example/a?b": "https://x.example/a?b",
		"urn:uuid:6e8bc430":     "urn:uuid:6e8bc430",
		"my service":            "my%20service",
		"a%zz":                  "a%25zz",
		":8000":                 "%3A8000",
		"é":                     "%C3%A9",
		"a\nb":                  "a%0Ab",
		"1:2 3":                 "1%3A2%203",
		`a"b`:                   "a%22b",
		"http://[::1":           "http%3A%2F%2F%5B%3A%3A1",
	} {
		m := shapedMessage()
		m.Event.Source = source
		shaped := m.Shaped(payload.ShapeCloudEvents)
		var got cloudevents.Event
		if err := json.Unmarshal(payload.AppendJSON(nil, shaped), &got); err != nil {
			t.Errorf("%q: %v", source, err)
			continue
		}
		sent, _ := shaped.Get("source") // the SDK would mend it
		if err := got.Validate(); err != nil || sent.Text() != want {
			t.Errorf("%q: %q, %v; want %q", source, sent.Text(), err, want)
		}
	}
	m := shapedMessage()
	m.Event.MinorVersion, m.Event.SourceHost, m.Event.SourceLib, m.Event.Traceparent = math.MaxInt32+1, "", nil, ""
	m.Event.Time = time.Date(2023, 1, 31, 21, 24, 32, 500_000_000, time.FixedZone("", 3600))
	var err error
	if m.Data, err = payload.ParseJSON([]byte(`{"a.B": [NaN, 1.0, [-Infinity]], "a.C": {"x": Infinity}}`)); err != nil {
		t.Fatal(err)
	}
	before := string(m.Body(delivery.FormatJSON))
	same(t, "CloudEvent", payload.AppendJSON(nil, m.Shaped(payload.ShapeCloudEvents)), `{"specversion": "1.0", "id": "457f0c26", `+
		`"source": "openedx/lms/web", "type": "org.openedx.learning.x.v1", "time": "2023-01-31T20:24:32.5Z", `+
		`"datacontenttype": "application/json", "minorversion": "2147483648", "data": {"a.B": [null, 1.0, [null]], "a.C": {"x": null}}}`)
	same(t, "standard", payload.AppendJSON(nil, m.Shaped(payload.ShapeStandard)), `{"type": "org.openedx.learning.x.v1", `+
		`"timestamp": "2023-01-31T20:24:32.5Z", "data": {"a.B": [null, 1.0, [null]], "a.C": {"x": null}}}`)
	same(t, "plugin", m.Body(delivery.FormatJSON), before)
	if !strings.Contains(before, "NaN") {
		t.Error("the plugin's body spells what it spells")
	}
	m.Data = payload.ObjectValue([]string{"token"}, []payload.Value{payload.IntValue(1)})
	same(t, "nothing", payload.AppendJSON(nil, payload.Data(m.Payload())), "{}")
}

func TestParseShape(t *testing.T) {
	t.Parallel()
	for _, s := range shapes {
		if got, err := payload.ParseShape(s.String()); err != nil || got != s {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if got, err := payload.ParseShape(""); err != nil || got != payload.ShapePlugin {
		t.Errorf("none: %v, %v", got, err)
	}
	const unknown = `unknown shape "xml": write one of plugin, cloudevents, standard`
	if _, err := payload.ParseShape("xml"); err == nil || err.Error() != unknown {
		t.Errorf("a shape that there is not: %v", err)
	}
}
