package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// EventView is something that rules can be for.
type EventView struct {
	Event     string `json:"event"` // the name that a rule has it by
	Kind      string `json:"kind"`  // signal, or filter: called in requests of the LMS, for webfilters only
	EventType string `json:"event_type"`
	OnBus     bool   `json:"on_bus"` // false for a signal whose data the event bus cannot serialise: it never arrives
	Plugin    bool   `json:"plugin"` // whether the plugin inside the LMS knows it, too
}

// Events returns the signals of the catalogue, then the filters of the plugin, both sorted by name.
func (a *Admin) Events() []EventView {
	all := views(a.o.Catalogue.Signals(), func(s *schema.Signal) EventView {
		return EventView{Event: s.Constant, Kind: "signal", EventType: s.Type, OnBus: s.OnBus, Plugin: s.Plugin}
	})
	slices.SortFunc(all, func(a, b EventView) int { return cmp.Compare(a.Event, b.Event) })
	for _, name := range webfilter.Names() {
		all = append(all, EventView{Event: name, Kind: "filter", Plugin: true})
	}
	return all
}

// Sample returns a sample of an event, which is named by its constant or its type. An unknown event
// is a *Problem, the only one; an event without a sample a *NotFoundError.
func (a *Admin) Sample(name string) (*payload.Message, error) {
	signal, ok := a.signal(name)
	if !ok {
		return nil, &Problem{Field: "event", Reason: unknownEvent(name) + suggest.DidYouMean(name, a.constants()), See: SeeEvents}
	}
	// The Avro schema is that which openedx-events registers.
	text, ok := a.o.Catalogue.Avro(signal.Type)
	if !ok {
		return nil, &NotFoundError{Reason: fmt.Sprintf("the event %s has no sample; give a JSON file of the event", signal.Constant)}
	}
	var root any
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		return nil, fmt.Errorf("read the schema of %s: %w", signal.Type, err)
	}
	b := sampler{named: make(map[string]map[string]any), datetimes: signal.Datetimes}
	data, ok := b.value(root, "", "").Get(signal.Kwarg)
	if !ok {
		return nil, fmt.Errorf("the schema of %s has no field %s", signal.Type, signal.Kwarg)
	}
	return &payload.Message{Event: a.sampleEvent(signal.Type), Data: payload.ObjectValue([]string{signal.Class}, []payload.Value{data})}, nil
}

// ReadEvent reads an event of a type from a document that has what a JSON webhook sends: an object
// with the data under its class path, and "event_metadata". Missing metadata is taken from a
// sample. What cannot be such an event is a *Problem, with a Fix where a sample would help.
func (a *Admin) ReadEvent(document []byte, eventType string) (*payload.Message, error) {
	message, err := payload.ReadMessage(document, a.sampleEvent(eventType))
	if err != nil {
		return nil, &Problem{Field: "event", Reason: err.Error()}
	}
	// An event of another type, or without the data that all of its type have, is not one that the
	// rule can get: it would make a request of it that looks real, and send it.
	wrong := &Problem{Field: "event", Fix: "give a JSON file of such an event"}
	signal, known := a.o.Catalogue.ByType(eventType)
	if known {
		wrong.Fix, wrong.See = "give one like its sample", SeeEvents+List("/"+signal.Constant)
	}
	if message.Event.Type != eventType {
		given := Cell(suggest.Clip(message.Event.Type, delivery.MaxText))
		wrong.Reason = fmt.Sprintf("it is an event of the type %s, and the rule is for %s", given, eventType)
		return nil, wrong
	}
	if data, ok := message.Data.Get(signal.Class); known && (!ok || data.Kind() != payload.Object) { // else it is somebody's own
		wrong.Reason = fmt.Sprintf("it has no object under %q, where %s has its data", signal.Class, signal.Constant)
		return nil, wrong
	}
	return message, nil
}

// EventType returns the type of an event that is named by its constant or its type, to select by.
// An unknown constant is a *Problem. An unknown type may be of an earlier release or somebody's
// own, so it is returned as it is, with a note that says so: a typing error would look like an
// event that never came. An empty name has an empty type.
func (a *Admin) EventType(name string) (eventType, note string, err error) {
	if signal, ok := a.signal(name); ok || name == "" {
		return signal.Type, "", nil
	}
	if !strings.Contains(name, ".") {
		fix := "write a signal's constant or an event type" + suggest.DidYouMean(name, a.constants())
		return "", "", &Problem{Field: "event", Reason: unknownEvent(name), Fix: fix, See: SeeEvents}
	}
	types := views(a.o.Catalogue.Signals(), func(s *schema.Signal) string { return s.Type })
	return name, fmt.Sprintf("the platform's release %s has no event type %s%s",
		a.o.Catalogue.Release(), Cell(suggest.Clip(name, delivery.MaxText)), suggest.DidYouMean(name, types)), nil
}

// signal finds a signal by its constant or its event type.
func (a *Admin) signal(name string) (schema.Signal, bool) {
	if signal, ok := a.o.Catalogue.ByConstant(name); ok {
		return signal, true
	}
	return a.o.Catalogue.ByType(name)
}

// constants returns the constants of all signals.
func (a *Admin) constants() []string {
	return views(a.o.Catalogue.Signals(), func(s *schema.Signal) string { return s.Constant })
}

// maxWord is how many characters of a wrong word a problem quotes.
const maxWord = 40

func unknownEvent(name string) string {
	return fmt.Sprintf("unknown event %q", suggest.Clip(name, maxWord))
}

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

// sampler makes a value for each type of a schema. It keeps records by name, because a schema
// defines a record once and then refers to its name.
type sampler struct {
	named     map[string]map[string]any
	datetimes []string
}

// value makes a value of a type for a field of that name. The path has a dot before each part.
func (b *sampler) value(typ any, path, name string) payload.Value {
	switch typ := typ.(type) {
	case []any: // a union, in which null says the least
		for _, branch := range typ {
			if branch != "null" {
				return b.value(branch, path, name)
			}
		}
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

func (b *sampler) complex(typ map[string]any, path, name string) payload.Value {
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
			keys, items = append(keys, key), append(items, b.value(field["type"], path+"."+key, key))
		}
		return payload.ObjectValue(keys, items)
	case "array":
		return payload.ListValue([]payload.Value{b.value(typ["items"], path+".*", name)})
	case "map":
		return payload.ObjectValue([]string{"key"}, []payload.Value{b.value(typ["values"], path+".*", name)})
	}
	return b.value(typ["type"], path, name)
}

func (b *sampler) primitive(typ, path, name string) payload.Value {
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
	if slices.Contains(b.datetimes, strings.TrimPrefix(path, ".")) {
		return payload.StringValue(payload.Datetime(SampleTime()))
	}
	return payload.StringValue(sampleText(name))
}

// sampleTexts are plausible texts for fields, so that a sample passes a receiver's own checks.
var sampleTexts = [...]struct{ fields, text string }{
	{"course_key course_id master_course_key content_key", "course-v1:edX+DemoX+Demo_Course"},
	{"ccx_course_key", "ccx-v1:edX+DemoX+Demo_Course+ccx@1"},
	{"usage_key source_usage_key location object_id", "block-v1:edX+DemoX+Demo_Course+type@problem+block@0123456789abcdef"},
	{"library_key", "lib:edX:demo"},
	{"collection_key", "lib-collection:edX:demo:sample"},
	{"container_key", "lct:edX:demo:unit:sample"},
	{"username", "learner"},
	{"email coach_email", "learner@example.com"},
	{
		"uuid enterprise_customer_uuid ledger_uuid subsidy_access_policy_uuid transaction_id invite_key",
		"5a3e0000-0000-4000-8000-000000000002",
	},
	{"url content_url download_url image_url", "https://lms.example.com/sample"},
	{"mode", "audit"},
	{"block_type", "problem"},
}

func sampleText(field string) string {
	for _, s := range sampleTexts {
		if slices.Contains(strings.Fields(s.fields), field) {
			return s.text
		}
	}
	return strings.TrimSpace("sample " + field)
}
