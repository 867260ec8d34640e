package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

type addCommand struct {
	config.Database
	kindFlag

	Event    string `required:"" placeholder:"CONSTANT" help:"Signal constant, such as COURSE_ENROLLMENT_CREATED."`
	URL      string `required:"" placeholder:"URL" name:"url" help:"Where to send the events: http:// or https://."`
	Form     bool   `help:"Send form fields instead of JSON."`
	Disabled bool   `help:"Add the rule switched off."`
	JSON     bool   `help:"Print one JSON document." name:"json"`
}

// Run adds the rule. A row that would be faulty is refused before the database is asked.
func (c *addCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}
	row := rule.Row{Event: c.Event, URL: c.URL, Enabled: !c.Disabled, Form: c.Form}
	compiled, err := rule.Compile(row, catalogue)
	if err != nil {
		return usagef("the rule is refused: %w", err)
	}
	if signal, ok := catalogue.ByConstant(c.Event); ok {
		row.Event = signal.Constant // as Django's admin offers it
	}
	row.URL = compiled.URL
	err = s.withStore(&c.Database, func(st *store.Store) error {
		var err error
		row.ID, err = st.AddWebhook(ctx, row)
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
