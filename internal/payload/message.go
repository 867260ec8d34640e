package payload

import (
	"bytes"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// Message is an event with its data, from which bodies are made. It is immutable.
type Message struct {
	Event event.Event // the envelope
	// Data is an Object with one entry for each argument of the signal (exactly one on the bus).
	// The key is the plugin's class path, such as "openedx_events.learning.data.UserData"; the
	// value is the data, not yet redacted, with datetimes already formatted as by Python's str().
	Data     Value
	Recorded time.Time // when the event was put on the bus; zero if unknown; in no body
}

// MetadataKey is the last key of a payload.
const MetadataKey = "event_metadata"

var metadataKeys = []string{"event_type", "id", "minorversion", "source", "sourcehost", "time", "sourcelib"}

// Payload returns what version 22 of the plugin sends: Data, redacted, and "event_metadata".
func (m *Message) Payload() Value {
	n := m.Data.Len()
	// Exactly the memory for payload, metadata and library version.
	b := Builder{items: make([]Value, n+1+len(metadataKeys)+len(m.Event.SourceLib)), subs: make([]compound, 3)}
	keys := make([]string, 0, n+1)
	items := b.Items(n + 1)[:0]
	for i, data := range m.Data.list() {
		if key := m.Data.Key(i); !isSensitive(key) {
			keys = append(keys, key)
			items = append(items, redactData(data))
		}
	}
	keys = append(keys, MetadataKey)
	items = append(items, m.metadata(&b))
	return b.Object(keys, items)
}

func (m *Message) metadata(b *Builder) Value {
	library := b.Items(len(m.Event.SourceLib))
	for i, n := range m.Event.SourceLib {
		library[i] = IntValue(n)
	}
	items := append(b.Items(len(metadataKeys))[:0], // in the order of metadataKeys
		StringValue(m.Event.Type), StringValue(m.Event.ID), IntValue(m.Event.MinorVersion), StringValue(m.Event.Source),
		StringValue(m.Event.SourceHost), StringValue(Datetime(m.Event.Time)), b.List(library))
	return b.Object(metadataKeys, items)
}

// Datetime returns Python's str() of the time in UTC, truncated to microseconds:
// "2023-01-31 20:28:10.976084+00:00", without the fraction if it is zero.
func Datetime(t time.Time) string {
	t = t.UTC().Truncate(time.Microsecond)
	layout := "2006-01-02 15:04:05.000000+00:00"
	if t.Nanosecond() == 0 {
		layout = "2006-01-02 15:04:05+00:00"
	}
	return t.Format(layout)
}

// Body returns Payload, encoded.
func (m *Message) Body(f delivery.Format) []byte { return Encode(m.Payload(), f) }

// Encode returns v in the format. The result has no spare capacity, as many bodies may be waiting.
func Encode(v Value, f delivery.Format) []byte {
	if f == delivery.FormatForm {
		return bytes.Clone(AppendForm(make([]byte, 0, bodySize), v))
	}
	var scratch [bodySize]byte // stays on the stack
	return bytes.Clone(AppendJSON(scratch[:0], v))
}

// bodySize fits the body of a typical event.
const bodySize = 2048
