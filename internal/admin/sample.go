package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// SampleTime returns the time in every sample, which is constant so that samples are reproducible.
func SampleTime() time.Time {
	return time.Date(2026, time.January, 2, 3, 4, 5, 678901000, time.UTC)
}

// sampleEvent is the envelope of every sample.
func (a *Admin) sampleEvent(eventType string) event.Event {
	return event.Event{
		Type: eventType, ID: "5a3e0000-0000-4000-8000-000000000001", Source: "openedx/lms/web",
		SourceHost: "webhook-dispatcher-test", Time: SampleTime(), SourceLib: a.o.Catalogue.Version(),
	}
}

// sampleMessage makes an event from the Avro schema that openedx-events registers for it.
func (a *Admin) sampleMessage(signal schema.Signal) (*payload.Message, error) {
	text, ok := a.o.Catalogue.Avro(signal.Type)
	if !ok {
		return nil, &NotFoundError{Reason: fmt.Sprintf("the event %s has no sample; give a JSON file of the event", signal.Constant)}
	}
	var root any
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		return nil, fmt.Errorf("read the schema of %s: %w", signal.Type, err)
	}
	b := sampler{named: make(map[string]map[string]any), datetimes: signal.Datetimes}
	record := b.value(root, nil, "")
	data, ok := record.Get(signal.Kwarg)
	if !ok {
		return nil, fmt.Errorf("the schema of %s has no field %s", signal.Type, signal.Kwarg)
	}
	return &payload.Message{
		Event: a.sampleEvent(signal.Type),
		Data:  payload.ObjectValue([]string{signal.Class}, []payload.Value{data}),
	}, nil
}

// sampler makes a value for each type of a schema. It keeps records by name, because a schema
// defines a record once and then refers to its name.
type sampler struct {
	named     map[string]map[string]any
	datetimes []string
}

func (b *sampler) value(typ any, path []string, name string) payload.Value {
	switch typ := typ.(type) {
	case []any: // a union, in which null says the least
		for _, branch := range typ {
			if branch != "null" {
				return b.value(branch, path, name)
			}
		}
		return payload.Value{}
	case map[string]any:
		return b.complex(typ, path, name)
	case string:
		if record, ok := b.named[typ]; ok {
			return b.complex(record, path, name)
		}
		return b.primitive(typ, path, name)
	}
	return payload.Value{}
}

func (b *sampler) complex(typ map[string]any, path []string, name string) payload.Value {
	under := func(part string) []string { return append(slices.Clone(path), part) }
	switch typ["type"] {
	case "record":
		if own, ok := typ["name"].(string); ok {
			b.named[own] = typ
		}
		fields, _ := typ["fields"].([]any)
		var keys []string
		var items []payload.Value
		for _, f := range fields {
			field, _ := f.(map[string]any)
			key, _ := field["name"].(string)
			keys, items = append(keys, key), append(items, b.value(field["type"], under(key), key))
		}
		return payload.ObjectValue(keys, items)
	case "array":
		return payload.ListValue([]payload.Value{b.value(typ["items"], under("*"), name)})
	case "map":
		return payload.ObjectValue([]string{"key"}, []payload.Value{b.value(typ["values"], under("*"), name)})
	}
	return b.value(typ["type"], path, name)
}

func (b *sampler) primitive(typ string, path []string, name string) payload.Value {
	switch typ {
	case "boolean":
		return payload.BoolValue(true)
	case "int", "long":
		return payload.IntValue(1)
	case "float", "double":
		return payload.FloatValue(0.5)
	case "bytes":
		return payload.BytesValue("sample")
	case "null":
		return payload.Value{}
	}
	if slices.Contains(b.datetimes, strings.Join(path, ".")) {
		return payload.StringValue(payload.Datetime(SampleTime()))
	}
	return payload.StringValue(sampleText(name))
}
