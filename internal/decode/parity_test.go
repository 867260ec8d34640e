package decode

import (
	"slices"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// reordered are the fixtures whose body over the bus cannot have the bytes of the body in process:
// the producer writes the keys of maps sorted, so the order that the sending code gave them is lost
// before the record exists. The value says which maps those are; with them in the record's order
// everything is equal.
var reordered = map[string][]string{
	"event_FORUM_RESPONSE_COMMENT_CREATED__full": {"discussion", "options"},
	"event_FORUM_THREAD_CREATED__full":           {"discussion", "options"},
	"event_USER_NOTIFICATION_REQUESTED__full":    {"context"},
}

// notOnBus are the events that never become records: one of their fields is a file, so the producer
// has no schema for them.
var notOnBus = []string{"COURSE_CERTIFICATE_CONFIG_CHANGED", "COURSE_CERTIFICATE_CONFIG_DELETED"}

// Every captured event, decoded from its record, has the body that the plugin sent in process, byte
// for byte.
func TestParity(t *testing.T) {
	t.Parallel()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range parityFixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			signal, ok := catalogue.ByType(f.Type)
			if !ok || signal.Constant != f.Event || signal.Class != f.Class {
				t.Errorf("catalogue has %+v, want constant %s, class %s", signal, f.Event, f.Class)
			}
			if slices.Contains(notOnBus, f.Event) {
				checkNotOnBus(t, &f, signal)
				return
			}
			if f.Kafka == nil || len(f.Kafka.Value) == 0 {
				t.Fatal("no record, and not named as an event that has none")
			}
			d := newDecoder(t, mustSchema(t, string(f.Kafka.Schema)))
			rec := f.record()
			ev, err := d.Envelope(rec)
			if err != nil {
				t.Fatal(err)
			}
			m, err := d.Message(t.Context(), rec, ev)
			if err != nil {
				t.Fatal(err)
			}
			wantJSON, wantForm := f.InProcess.JSON.Body, f.InProcess.Form.Body
			if maps, ok := reordered[f.name]; ok {
				if string(m.Body(delivery.FormatJSON)) == wantJSON {
					t.Error("equal without sorting: the exception is not needed")
				}
				v := sorted(t, parsed(t, wantJSON), maps)
				wantJSON = string(payload.AppendJSON(nil, v))
				wantForm = string(payload.AppendForm(nil, v))
			}
			same(t, "JSON", string(m.Body(delivery.FormatJSON)), wantJSON)
			same(t, "form", string(m.Body(delivery.FormatForm)), wantForm)
		})
	}
}

// checkNotOnBus checks what can be: the catalogue knows that no record can come, and the encoders
// make the captured form out of the captured JSON.
func checkNotOnBus(t *testing.T, f *parityFixture, signal schema.Signal) {
	t.Helper()
	if signal.OnBus || f.Kafka != nil && len(f.Kafka.Value) > 0 {
		t.Error("the event can be on the bus")
	}
	v := parsed(t, f.InProcess.JSON.Body)
	same(t, "JSON", string(payload.AppendJSON(nil, v)), f.InProcess.JSON.Body)
	same(t, "form", string(payload.AppendForm(nil, v)), f.InProcess.Form.Body)
}

// same compares two texts and shows the place where they part.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	from := max(0, i-60)
	t.Errorf("%s differs at byte %d\n got …%.160s\nwant …%.160s", what, i, got[from:], want[from:])
}

func parsed(t *testing.T, text string) payload.Value {
	t.Helper()
	v, err := payload.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sorted returns the payload v with the named maps, fields of the data class, in the order of their
// keys.
func sorted(t *testing.T, v payload.Value, maps []string) payload.Value {
	t.Helper()
	found := 0
	out := eachEntry(v, func(class string, data payload.Value) payload.Value {
		if !strings.HasPrefix(class, "openedx_events.") {
			return data
		}
		return eachEntry(data, func(field string, m payload.Value) payload.Value {
			if !slices.Contains(maps, field) {
				return m
			}
			found++
			keys := make([]string, m.Len())
			for i := range keys {
				keys[i] = m.Key(i)
			}
			slices.Sort(keys)
			items := make([]payload.Value, len(keys))
			for i, key := range keys {
				items[i], _ = m.Get(key)
			}
			return payload.ObjectValue(keys, items)
		})
	})
	if found != len(maps) {
		t.Fatalf("%d of the fields %v", found, maps)
	}
	return out
}

func eachEntry(v payload.Value, change func(key string, item payload.Value) payload.Value) payload.Value {
	var out payload.Entries
	for i := range v.Len() {
		out.Set(v.Key(i), change(v.Key(i), v.Item(i)))
	}
	return out.Object()
}
