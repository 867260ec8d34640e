package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	filterengine "github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

type eventsListCommand struct {
	JSON bool `help:"Print one JSON document." name:"json"`
}

type eventsShowCommand struct {
	Event string `arg:"" help:"The event: its signal's constant, or its type."`
}

// The kinds of what rules can be for.
const (
	signalKind = "signal"
	filterKind = "filter" // called in requests of the LMS: for webfilters only
)

// eventView is something that rules can be for.
type eventView struct {
	Event     string `json:"event"` // what rules add --event takes
	Kind      string `json:"kind"`  // signal or filter
	EventType string `json:"event_type"`
	OnBus     bool   `json:"on_bus"` // false for a signal: it never comes, the event bus cannot serialise its data
	Plugin    bool   `json:"plugin"` // whether the plugin inside the LMS knows it, too
}

// eventViews returns the signals of the catalogue and then the filters of the plugin, each by name.
func eventViews(catalogue *schema.Catalogue) []eventView {
	var views []eventView
	for _, s := range catalogue.Signals() {
		views = append(views, eventView{Event: s.Constant, Kind: signalKind, EventType: s.Type, OnBus: s.OnBus, Plugin: s.Plugin})
	}
	slices.SortFunc(views, func(a, b eventView) int { return cmp.Compare(a.Event, b.Event) })
	for _, name := range filterengine.Names() {
		views = append(views, eventView{Event: name, Kind: filterKind, Plugin: true})
	}
	return views
}

// Run lists what rules can be for. It reads no settings, so it works with wrong ones.
func (c *eventsListCommand) Run(s *session) error {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}
	views := eventViews(catalogue)
	if c.JSON {
		return s.printJSON(views)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "EVENT\tKIND\tEVENT TYPE\tON BUS\tPLUGIN")
	for _, v := range views {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", v.Event, v.Kind, cell(v.EventType), yesNo(v.OnBus), yesNo(v.Plugin))
	}
	return table.Flush()
}

// Run prints a sample of an event, which rules test --event takes as a file. It reads no settings either.
func (c *eventsShowCommand) Run(s *session) error {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}
	signal, ok := signalOf(c.Event, catalogue)
	if !ok {
		return usagef("unknown event %q%s; see events list", suggest.Clip(c.Event, maxWord), didYouMean(c.Event, constants(catalogue)))
	}
	message, err := sampleMessage(signal, catalogue)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Stdout, "%s\n", message.Body(delivery.FormatJSON))
	return err
}

// signalOf finds a signal by its constant or its event type.
func signalOf(name string, catalogue *schema.Catalogue) (schema.Signal, bool) {
	if signal, ok := catalogue.ByConstant(name); ok {
		return signal, true
	}
	return catalogue.ByType(name)
}

// constants returns the constants of all signals.
func constants(catalogue *schema.Catalogue) (names []string) {
	for _, s := range catalogue.Signals() {
		names = append(names, s.Constant)
	}
	return names
}

// typeOf returns the event type that people mean who choose by event: a constant's, or what they have written, if that can be one. A
// type that the catalogue lacks may be one of an earlier release, or of somebody's own; note says so then.
func typeOf(name string, catalogue *schema.Catalogue) (eventType, note string, err error) {
	if signal, ok := signalOf(name, catalogue); ok {
		return signal.Type, "", nil
	}
	if !strings.Contains(name, ".") {
		return "", "", usagef("--event: unknown event %q: write a signal's constant or an event type%s; see events list",
			suggest.Clip(name, maxWord), didYouMean(name, constants(catalogue)))
	}
	var types []string
	for _, s := range catalogue.Signals() {
		types = append(types, s.Type)
	}
	return name, fmt.Sprintf("the platform's release %s has no event type %s%s", catalogue.Release(),
		cell(suggest.Clip(name, delivery.MaxText)), didYouMean(name, types)), nil
}
