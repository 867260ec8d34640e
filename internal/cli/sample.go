package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// sampleTime is the moment of every sample: samples are the same each time.
func sampleTime() time.Time { return time.Date(2026, time.January, 2, 3, 4, 5, 678901000, time.UTC) }

// sampleEvent is the envelope of every sample.
func sampleEvent(eventType string, catalogue *schema.Catalogue) event.Event {
	return event.Event{
		Type: eventType, ID: "5a3e0000-0000-4000-8000-000000000001", Source: "openedx/lms/web", SourceHost: "webhook-dispatcher-test",
		Time: sampleTime(), SourceLib: catalogue.Version(),
	}
}

// testMessage returns the event that name means: a signal constant, an event type, or a file; nothing means the rule's own.
func testMessage(name string, r *rule.Rule, catalogue *schema.Catalogue) (*payload.Message, error) {
	if name == "" {
		name = r.EventType
	}
	if signal, ok := signalOf(name, catalogue); ok {
		return sampleMessage(signal, catalogue)
	}
	message, err := fileMessage(name, r, catalogue)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("--event %s: neither a file nor an event that has a sample; give a JSON file of the event", name)
	}
	return message, err
}

// fileMessage reads an event from a file that holds what a JSON webhook sends: {"<class path>": {…}, "event_metadata": {…}}. What
// is missing of the metadata is taken from a sample of the rule's event.
func fileMessage(path string, r *rule.Rule, catalogue *schema.Catalogue) (*payload.Message, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	message, err := payload.ReadMessage(text, sampleEvent(r.EventType, catalogue))
	if err == nil {
		err = isFor(message, r, catalogue)
	}
	if err != nil {
		return nil, fmt.Errorf("--event %s: %w", path, err)
	}
	return message, nil
}

// isFor refuses an event that the rule never gets: of another type, or without the data that all of its type have. What an expression or
// a recipe made of it would look like a request that daemons make, and be sent.
func isFor(message *payload.Message, r *rule.Rule, catalogue *schema.Catalogue) error {
	signal, known := catalogue.ByType(r.EventType)
	sample := "give a JSON file of such an event"
	if known {
		sample = fmt.Sprintf("webhook-dispatcher events show %s prints a sample", signal.Constant)
	}
	if message.Event.Type != r.EventType {
		return fmt.Errorf("it is an event of the type %s, and the rule is for %s: %s",
			cell(suggest.Clip(message.Event.Type, delivery.MaxText)), r.EventType, sample)
	}
	if !known {
		return nil // of somebody's own
	}
	if data, ok := message.Data.Get(signal.Class); !ok || data.Kind() != payload.Object {
		return fmt.Errorf("it has no object under %q, where %s has its data: %s", signal.Class, signal.Constant, sample)
	}
	return nil
}

// sampleMessage builds an event of the Avro schema that openedx-events registers for it.
func sampleMessage(signal schema.Signal, catalogue *schema.Catalogue) (*payload.Message, error) {
	text, ok := catalogue.Avro(signal.Type)
	if !ok {
		return nil, fmt.Errorf("the event %s has no sample; give a JSON file of the event", signal.Constant)
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
		Event: sampleEvent(signal.Type, catalogue),
		Data:  payload.ObjectValue([]string{signal.Class}, []payload.Value{data}),
	}, nil
}

// sampler makes a value for each type of a schema. Names of records are kept: a record that was defined once is referred
// to by its name.
type sampler struct {
	named     map[string]map[string]any
	datetimes []string
}

func (b *sampler) value(typ any, path []string, name string) payload.Value {
	switch typ := typ.(type) {
	case []any: // a union; null is the dull branch
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
		return payload.StringValue(payload.Datetime(sampleTime()))
	}
	return payload.StringValue(sampleText(name))
}
