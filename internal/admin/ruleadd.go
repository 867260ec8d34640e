package admin

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// WebfilterChange says what is to change of the columns that only webfilter rows have; nil stays as it is.
type WebfilterChange struct {
	Description                *string `json:"description,omitempty"`
	DisableFiltering           *bool   `json:"disable_filtering,omitempty"`
	DisableHalt                *bool   `json:"disable_halt,omitempty"`
	HaltOn4xx                  *bool   `json:"halt_on_4xx,omitempty"`
	RedirectOn4xx              *string `json:"redirect_on_4xx,omitempty"`
	HaltOn5xx                  *bool   `json:"halt_on_5xx,omitempty"`
	RedirectOn5xx              *string `json:"redirect_on_5xx,omitempty"`
	HaltOnRequestException     *bool   `json:"halt_on_request_exception,omitempty"`
	RedirectOnRequestException *string `json:"redirect_on_request_exception,omitempty"`
}

// Given returns the name of a column that is to change, "" for none.
func (c *WebfilterChange) Given() string {
	for field, value := range reflect.ValueOf(*c).Fields() {
		if !value.IsNil() {
			return strings.ReplaceAll(jsonName(field), "_", "-")
		}
	}
	return ""
}

// Check refuses values that no row must have.
func (c *WebfilterChange) Check(table rule.Table) error {
	if name := c.Given(); name != "" && table != rule.Webfilters {
		return &Problem{Field: name, Reason: "`" + name + "` is for webfilters", Fix: "add `kind` webfilter"}
	}
	if c.Description != nil && !utf8.ValidString(*c.Description) {
		return &Problem{Field: "description", Reason: "the value is not UTF-8"}
	}
	return cmp.Or(checkRedirect("redirect-on-4xx", c.RedirectOn4xx), checkRedirect("redirect-on-5xx", c.RedirectOn5xx),
		checkRedirect("redirect-on-request-exception", c.RedirectOnRequestException))
}

func checkRedirect(field string, value *string) error {
	if value == nil || *value == "" {
		return nil
	}
	if _, err := rule.ParseURL(*value); err != nil {
		return &Problem{Field: field, Reason: "write a URL with http:// or https:// and a host, of 255 characters at most"}
	}
	return nil
}

// fill puts what is given into a row.
func (c *WebfilterChange) fill(row *rule.WebfilterRow) {
	set(&row.Description, c.Description)
	set(&row.DisableFiltering, c.DisableFiltering)
	set(&row.DisableHalt, c.DisableHalt)
	set(&row.HaltOn4xx, c.HaltOn4xx)
	set(&row.RedirectOn4xx, c.RedirectOn4xx)
	set(&row.HaltOn5xx, c.HaltOn5xx)
	set(&row.RedirectOn5xx, c.RedirectOn5xx)
	set(&row.HaltOnRequestException, c.HaltOnRequestException)
	set(&row.RedirectOnRequestException, c.RedirectOnRequestException)
}

func set[T any](field, given *T) {
	if given != nil {
		*field = *given
	}
}

// ChangeWebfilter changes the columns of a webfilter row, and reports whether they were others.
func (a *Admin) ChangeWebfilter(ctx context.Context, id int32, c *WebfilterChange) (changed bool, err error) {
	if err := c.Check(rule.Webfilters); err != nil {
		return false, err
	}
	return a.o.Store.ChangeWebfilter(ctx, id, func(row *rule.WebfilterRow) error {
		c.fill(row)
		return nil
	})
}

// NewRule is a rule to add.
type NewRule struct {
	Table     rule.Table      `json:"-"`
	Event     string          `json:"event"`
	URL       string          `json:"url"`
	Form      bool            `json:"form,omitempty"` // form fields instead of JSON
	Disabled  bool            `json:"disabled,omitempty"`
	Options   OptionChange    `json:"options,omitzero"`
	Webfilter WebfilterChange `json:"webfilter,omitzero"`
}

// AddedView is a rule that was added.
type AddedView struct {
	ID   int32  `json:"id"`
	Kind string `json:"kind"`
	// Unknown is the name of a webfilter's filter that is neither a signal's nor one of the plugin's, Hint "; did you mean NAME?" or "".
	// Any name may be used, by callers of one's own; the plugin never asks for it.
	Unknown string `json:"-"`
	Hint    string `json:"-"`
}

// AddRule adds a rule. What would be faulty or held is refused before the database is asked. A rule is adopted where only adopted rows
// are rules, and where it is called in requests: daemons call no other. An adopted row is switched off for the plugin.
func (a *Admin) AddRule(ctx context.Context, n *NewRule) (*AddedView, error) {
	var d draft
	if err := cmp.Or(n.Webfilter.Check(n.Table), n.Options.check(n.Table)); err != nil {
		return nil, err
	}
	if err := d.apply(&n.Options, a.sealing()); err != nil {
		return nil, err
	}
	if n.Event != "" && n.Options.Replace != nil && n.Options.EventType == nil {
		d.document.EventType = "" // the event that is given wins
	}
	event, err := n.event(&d.document)
	if err != nil {
		return nil, err
	}
	row := rule.WebfilterRow{Row: rule.Row{Event: event, URL: n.URL, Form: n.Form}}
	compiled, err := d.try(n.Table, row.Row, a.o.Compiler)
	if err != nil {
		return nil, &Problem{Reason: "the rule is refused: " + err.Error()}
	}
	if err := a.fitsPreset(d.document.Preset, compiled); err != nil {
		return nil, err
	}
	if !d.secrets.Empty() && !a.sealing() {
		return nil, &Problem{Reason: "the rule is refused: it has secrets, and they cannot be sealed", Fix: needKey}
	}
	adopted := a.o.Compiler.Adopted || compiled.InRequest()
	row.URL, row.Enabled = compiled.URL, !n.Disabled && !adopted
	if signal, ok := a.o.Catalogue.ByConstant(event); ok {
		row.Event = signal.Constant // as Django's admin offers it
	} else if compiled.InRequest() {
		row.Event = compiled.EventType
	}
	n.Webfilter.fill(&row)
	option := func(id int32, created time.Time) (*rule.Option, error) {
		o := &rule.Option{Key: rule.Key{Table: n.Table, ID: id}, Enabled: !n.Disabled}
		if adopted {
			o.AdoptedAt = created
		}
		err := d.store(o, a.o.Keys)
		if !adopted && o.Document == "" && o.Sealed == "" {
			return nil, err
		}
		return o, err
	}
	view := &AddedView{Kind: n.Table.String()}
	if n.Table == rule.Webfilters {
		view.ID, err = a.o.Store.AddWebfilter(ctx, row, option)
		view.Unknown, view.Hint = a.unknownFilter(row.Event)
	} else {
		view.ID, err = a.o.Store.AddWebhook(ctx, row.Row, option)
	}
	if err != nil {
		return nil, err
	}
	return view, nil
}

// event returns what the row's column of this name is to have. It is empty where the options name an event type.
func (n *NewRule) event(d *rule.Document) (string, error) {
	if n.Event != "" || d.EventType != "" {
		return n.Event, nil
	}
	fix := "write a signal's constant, such as COURSE_ENROLLMENT_CREATED, or `event-type` TYPE"
	if n.Table == rule.Webfilters {
		fix = "write the name of a filter, such as CourseEnrollmentStarted, or a signal's constant"
	} else if d.Preset != "" {
		p, err := presetNamed(d.Preset)
		if err != nil {
			return "", err
		}
		return p.Event, nil
	}
	return "", &Problem{Field: "event", Reason: "`event` is missing", Fix: fix, See: SeeEvents}
}

// unknownFilter returns a name that is neither a signal's nor one of the plugin's filters, with a hint at what was meant.
func (a *Admin) unknownFilter(event string) (unknown, hint string) {
	names := views(a.Events(), func(known *EventView) string { return known.Event })
	if slices.Contains(names, event) || strings.Contains(event, ".") { // a dot is in event types alone
		return "", ""
	}
	return event, suggest.DidYouMean(event, names)
}
