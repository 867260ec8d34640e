package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/recipe"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type addCommand struct {
	ruleSettings
	kindFlag
	optionFlags

	Event    string `placeholder:"CONSTANT" help:"Signal constant, such as COURSE_ENROLLMENT_CREATED. A recipe has its own."`
	URL      string `required:"" placeholder:"URL" name:"url" help:"Where to send the events: http:// or https://."`
	Form     bool   `help:"Send form fields instead of JSON."`
	Disabled bool   `help:"Add the rule switched off."`
	JSON     bool   `help:"Print one JSON document." name:"json"`
}

// Run adds the rule. What would be faulty or held is refused before the database is asked.
func (c *addCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, c.groups()...)); err != nil {
		return err
	}
	row, d, err := c.rule(s)
	if err != nil {
		return err
	}
	keys, err := app.NewKeys(&c.Secrets)
	if err != nil {
		return err
	}
	document, secrets, err := d.encode()
	if err != nil {
		return err
	}
	option := func(id int32, created time.Time) (*rule.Option, error) {
		o := &rule.Option{Kind: delivery.KindWebhook, RuleID: id, Enabled: !c.Disabled}
		if c.adopted() {
			o.AdoptedAt = created
		} else if document == "" && secrets == "" {
			return nil, nil
		}
		return o, d.store(o, keys)
	}
	err = s.withStore(&c.Database, func(st *store.Store) error {
		var err error
		row.ID, err = st.AddWebhook(ctx, row, option)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(struct {
			ID   int32  `json:"id"`
			Kind string `json:"kind"`
		}{row.ID, delivery.KindWebhook.String()})
	}
	_, err = fmt.Fprintln(s.Stdout, row.ID)
	return err
}

// rule returns the row and the options that the flags describe, tried out. An adopted row is switched off for the plugin.
func (c *addCommand) rule(s *session) (row rule.Row, d draft, err error) {
	steps, err := c.changes(&inputs{stdin: s.Stdin, sealing: c.sealing()})
	if err != nil {
		return row, d, err
	}
	if err := d.apply(steps); err != nil {
		return row, d, err
	}
	if c.Event != "" && c.Options.given && !c.EventType.given {
		d.document.EventType = "" // flags win
	}
	event := c.Event
	if d.document.Recipe != "" && event == "" && d.document.EventType == "" {
		r, err := recipe.ByName(d.document.Recipe)
		if err != nil {
			return row, d, usageError{err}
		}
		event = r.Event
	}
	if event == "" && d.document.EventType == "" {
		return row, d, usagef("no event is given: write --event CONSTANT, such as COURSE_ENROLLMENT_CREATED, or --event-type TYPE")
	}
	compiler, err := c.compiler()
	if err != nil {
		return row, d, err
	}
	row = rule.Row{Event: event, URL: c.URL, Enabled: !c.Disabled && !c.adopted(), Form: c.Form}
	compiled, err := d.try(row, compiler)
	if err != nil {
		return row, d, usagef("the rule is refused: %w", err)
	}
	if !d.secrets.Empty() && !c.sealing() {
		return row, d, usagef("the rule is refused: it has secrets, and they cannot be sealed: %w", errNoKey)
	}
	if signal, ok := compiler.Catalogue.ByConstant(event); ok {
		row.Event = signal.Constant // as Django's admin offers it
	}
	row.URL = compiled.URL
	return row, d, nil
}
