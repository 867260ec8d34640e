package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
)

type addCommand struct {
	ruleSettings
	kindFlag
	optionFlags
	filterFlags `group:"Flags of a webfilter row (--kind webfilter), such as --halt-on-4xx, or --halt-on-4xx=false:"`
	jsonFlag

	Event    string `placeholder:"EVENT" help:"Signal constant, such as COURSE_ENROLLMENT_CREATED; for a webfilter also a filter's name."`
	URL      string `required:"" placeholder:"URL" name:"url" help:"Where to send the events: http:// or https://."`
	Form     bool   `help:"Send form fields instead of JSON."`
	Disabled bool   `help:"Add the rule switched off."`
}

// filterFlags are the columns that only webfilter rows have, as admin.WebfilterChange has them.
// Switches take =false.
type filterFlags struct {
	Description                *string `placeholder:"TEXT" help:"What the row is for."`
	DisableFiltering           *bool   `help:"Leave out the data of answers."`
	DisableHalt                *bool   `help:"Leave out the exceptions of answers."`
	HaltOn4xx                  *bool   `name:"halt-on-4xx" help:"Stop what was about to happen on an answer with a status 4xx."`
	RedirectOn4xx              *string `name:"redirect-on-4xx" placeholder:"URL" help:"Where the learner is sent then."`
	HaltOn5xx                  *bool   `name:"halt-on-5xx" help:"The same on 5xx."`
	RedirectOn5xx              *string `name:"redirect-on-5xx" placeholder:"URL" help:"Where the learner is sent then."`
	HaltOnRequestException     *bool   `help:"The same where no answer comes."`
	RedirectOnRequestException *string `placeholder:"URL" help:"Where the learner is sent then."`
}

// Run adds the rule.
func (c *addCommand) Run(ctx context.Context, s *session) error {
	n := &admin.NewRule{
		Table: c.table(), Event: c.Event, URL: c.URL, Form: c.Form, Disabled: c.Disabled, Webfilter: admin.WebfilterChange(c.filterFlags),
	}
	err := n.Webfilter.Check(n.Table)
	if err != nil {
		return err
	}
	if n.Options, err = c.change(&inputs{stdin: s.Stdin}); err != nil {
		return err
	}
	return s.withRules(ctx, &c.ruleSettings, func(a *admin.Admin) error {
		view, err := a.AddRule(ctx, n)
		if err != nil {
			return err
		}
		if view.Unknown != "" {
			s.note(fmt.Sprintf("the plugin has no filter of the name %s, so it never asks for it%s",
				cell(view.Unknown), cmp.Or(view.Hint, "; events list has its own")))
		}
		if c.JSON {
			return s.printJSON(view)
		}
		_, err = fmt.Fprintln(s.Stdout, view.ID)
		return err
	})
}
