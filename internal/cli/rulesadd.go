package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/recipe"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

type addCommand struct {
	ruleSettings
	kindFlag
	optionFlags
	filterFlags `group:"Flags of a webfilter row (--kind webfilter), such as --halt-on-4xx, or --halt-on-4xx=false:"`

	Event    string `placeholder:"EVENT" help:"Signal constant, such as COURSE_ENROLLMENT_CREATED; for a webfilter also a filter's name."`
	URL      string `required:"" placeholder:"URL" name:"url" help:"Where to send the events: http:// or https://."`
	Form     bool   `help:"Send form fields instead of JSON."`
	Disabled bool   `help:"Add the rule switched off."`
	JSON     bool   `help:"Print one JSON document." name:"json"`
}

// Run adds the rule. What would be faulty or held is refused before the database is asked.
func (c *addCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.filterFlags.check(c.kindFlag), c.optionFlags.check(c.kindFlag), s.settings(ctx, c.groups()...)); err != nil {
		return err
	}
	row, adopted, d, err := c.rule(s)
	if err != nil {
		return err
	}
	keys, err := rule.ParseKeys(c.SecretsKey.Reveal())
	if err != nil {
		return err
	}
	document, secrets, err := d.encode()
	if err != nil {
		return err
	}
	option := func(id int32, created time.Time) (*rule.Option, error) {
		o := &rule.Option{Key: c.key(id), Enabled: !c.Disabled}
		if adopted {
			o.AdoptedAt = created
		} else if document == "" && secrets == "" {
			return nil, nil
		}
		return o, d.store(o, keys)
	}
	err = s.withStore(&c.Database, func(st *store.Store) error {
		var err error
		if c.filters() {
			row.ID, err = st.AddWebfilter(ctx, row, option)
		} else {
			row.ID, err = st.AddWebhook(ctx, row.Row, option)
		}
		return err
	})
	if err != nil {
		return err
	}
	if c.filters() {
		s.noteFilter(row.Event)
	}
	if c.JSON {
		return s.printJSON(struct {
			ID   int32  `json:"id"`
			Kind string `json:"kind"`
		}{row.ID, c.Kind})
	}
	_, err = fmt.Fprintln(s.Stdout, row.ID)
	return err
}

// rule returns the row and the options that the flags describe, tried out, and whether the row is to be adopted: one that is called in
// requests always is, since daemons call no other. An adopted row is switched off for the plugin.
func (c *addCommand) rule(s *session) (row rule.WebfilterRow, adopted bool, d draft, err error) {
	steps, err := c.changes(&inputs{stdin: s.Stdin, sealing: c.sealing()})
	if err != nil {
		return row, false, d, err
	}
	if err := d.apply(steps); err != nil {
		return row, false, d, err
	}
	if c.Event != "" && c.Options.given && !c.EventType.given {
		d.document.EventType = "" // flags win
	}
	event, err := c.event(&d.document)
	if err != nil {
		return row, false, d, err
	}
	compiler, err := c.compiler()
	if err != nil {
		return row, false, d, err
	}
	row.Row = rule.Row{Event: event, URL: c.URL, Form: c.Form}
	compiled, err := d.try(c.table(), row.Row, compiler)
	if err != nil {
		return row, false, d, usagef("the rule is refused: %w", err)
	}
	if !d.secrets.Empty() && !c.sealing() {
		return row, false, d, usagef("the rule is refused: it has secrets, and they cannot be sealed: %w", errNoKey)
	}
	adopted = c.adopted() || compiled.InRequest()
	row.URL, row.Enabled = compiled.URL, !c.Disabled && !adopted
	if signal, ok := compiler.Catalogue.ByConstant(event); ok {
		row.Event = signal.Constant // as Django's admin offers it
	} else if compiled.InRequest() {
		row.Event = compiled.EventType
	}
	c.fill(&row)
	return row, adopted, d, nil
}

// noteFilter says beside the result that a name is neither a signal's nor one of the plugin's filters. Any may be used, by callers of one's
// own; the plugin never asks for it.
func (s *session) noteFilter(event string) {
	a, err := newAdmin(admin.Options{})
	if err != nil {
		return // the row is there
	}
	var names []string
	for _, known := range a.Events() {
		names = append(names, known.Event)
	}
	if slices.Contains(names, event) || strings.Contains(event, ".") { // a dot is in event types alone
		return
	}
	fmt.Fprintf(s.Stderr, "webhook-dispatcher: note: the plugin has no filter of the name %s, so it never asks for it%s\n", cell(event),
		cmp.Or(suggest.DidYouMean(event, names), "; events list has its own"))
}

// event returns what the row's column of this name is to have. It is empty where the options name an event type.
func (c *addCommand) event(d *rule.Document) (string, error) {
	switch {
	case c.Event != "" || d.EventType != "":
		return c.Event, nil
	case c.filters():
		return "", usagef("no event is given: write --event NAME, the name of a filter such as CourseEnrollmentStarted, or a signal's " +
			"constant; events list has all")
	case d.Recipe == "":
		return "", usagef("no event is given: write --event CONSTANT, such as COURSE_ENROLLMENT_CREATED, or --event-type TYPE; " +
			"events list has all")
	}
	r, err := recipe.ByName(d.Recipe)
	if err != nil {
		return "", usageError{err}
	}
	return r.Event, nil
}
