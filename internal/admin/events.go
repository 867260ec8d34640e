package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// The kinds of events that rules can be for.
const (
	kindSignal = "signal"
	kindFilter = "filter" // called in requests of the LMS: for webfilters only
)

// EventView is something that rules can be for.
type EventView struct {
	Event     string `json:"event"` // the name that a rule has it by
	Kind      string `json:"kind"`  // signal or filter
	EventType string `json:"event_type"`
	OnBus     bool   `json:"on_bus"` // false for a signal whose data the event bus cannot serialise: it never arrives
	Plugin    bool   `json:"plugin"` // whether the plugin inside the LMS knows it, too
}

// Events returns the signals of the catalogue and then the filters of the plugin, each sorted by
// name.
func (a *Admin) Events() []EventView {
	var views []EventView
	for _, s := range a.o.Catalogue.Signals() {
		views = append(views, EventView{Event: s.Constant, Kind: kindSignal, EventType: s.Type, OnBus: s.OnBus, Plugin: s.Plugin})
	}
	slices.SortFunc(views, func(a, b EventView) int { return cmp.Compare(a.Event, b.Event) })
	for _, name := range webfilter.Names() {
		views = append(views, EventView{Event: name, Kind: kindFilter, Plugin: true})
	}
	return views
}

// Sample returns a sample of an event, which is named by its constant or its type. An unknown event
// is a *Problem, the only one; an event without a sample a *NotFoundError.
func (a *Admin) Sample(name string) (*payload.Message, error) {
	signal, ok := a.signal(name)
	if !ok {
		return nil, &Problem{Field: "event", Reason: unknownEvent(name) + suggest.DidYouMean(name, a.constants()), See: SeeEvents}
	}
	return a.sampleMessage(signal)
}

// ReadEvent reads an event of a type from a document that has what a JSON webhook sends: an object
// with the data under its class path, and "event_metadata". Missing metadata is taken from a
// sample. What cannot be such an event is a *Problem, with a Fix where a sample would help.
func (a *Admin) ReadEvent(document []byte, eventType string) (*payload.Message, error) {
	message, err := payload.ReadMessage(document, a.sampleEvent(eventType))
	if err != nil {
		return nil, &Problem{Field: "event", Reason: err.Error()}
	}
	if reason := a.notOf(message, eventType); reason != "" {
		return nil, &Problem{Field: "event", Reason: reason, Fix: "give an event like the sample of its type"}
	}
	return message, nil
}

// notOf says why an event is not one that a rule for the type can get: it is of another type, or
// lacks the data that all of its type have. A rule would make a request of it that looks real, and
// send it.
func (a *Admin) notOf(message *payload.Message, eventType string) string {
	if message.Event.Type != eventType {
		return fmt.Sprintf("it is an event of the type %s, and the rule is for %s", safe(message.Event.Type), eventType)
	}
	signal, known := a.o.Catalogue.ByType(eventType)
	if !known {
		return "" // somebody's own, with data of which nothing is known
	}
	if data, ok := message.Data.Get(signal.Class); !ok || data.Kind() != payload.Object {
		return fmt.Sprintf("it has no object under %q, where %s has its data", signal.Class, signal.Constant)
	}
	return ""
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
	var types []string
	for _, s := range a.o.Catalogue.Signals() {
		types = append(types, s.Type)
	}
	return name, fmt.Sprintf("the platform's release %s has no event type %s%s",
		a.o.Catalogue.Release(), safe(name), suggest.DidYouMean(name, types)), nil
}

// signal finds a signal by its constant or its event type.
func (a *Admin) signal(name string) (schema.Signal, bool) {
	if signal, ok := a.o.Catalogue.ByConstant(name); ok {
		return signal, true
	}
	return a.o.Catalogue.ByType(name)
}

// constants returns the constants of all signals.
func (a *Admin) constants() (names []string) {
	for _, s := range a.o.Catalogue.Signals() {
		names = append(names, s.Constant)
	}
	return names
}

// maxWord is how many characters of a wrong word a problem quotes.
const maxWord = 40

func unknownEvent(name string) string {
	return fmt.Sprintf("unknown event %q", suggest.Clip(name, maxWord))
}

// safe returns an event type for use in a message: shortened, and quoted if it could break the line
// or control a terminal.
func safe(eventType string) string {
	text := suggest.Clip(eventType, delivery.MaxText)
	switch {
	case text == "":
		return "-"
	case !utf8.ValidString(text), strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return strconv.Quote(text)
	}
	return text
}
