package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
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

// Run adds the rule.
func (c *addCommand) Run(ctx context.Context, s *session) error {
	webfilter := c.filterFlags.change()
	if err := errors.Join(webfilter.Check(c.table()), s.settings(ctx, c.groups()...)); err != nil {
		return err
	}
	options, err := c.optionFlags.change(&inputs{stdin: s.Stdin})
	if err != nil {
		return err
	}
	var view *admin.AddedView
	err = s.withRules(&c.ruleSettings, func(a *admin.Admin) error {
		view, err = a.AddRule(ctx, &admin.NewRule{
			Table: c.table(), Event: c.Event, URL: c.URL, Form: c.Form, Disabled: c.Disabled, Options: options, Webfilter: webfilter,
		})
		return err
	})
	if err != nil {
		return err
	}
	if view.Unknown != "" {
		fmt.Fprintf(s.Stderr, "webhook-dispatcher: note: the plugin has no filter of the name %s, so it never asks for it%s\n",
			cell(view.Unknown), view.Hint)
	}
	if c.JSON {
		return s.printJSON(view)
	}
	_, err = fmt.Fprintln(s.Stdout, view.ID)
	return err
}
