package cli

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

type eventsListCommand struct {
	JSON bool `help:"Print one JSON document." name:"json"`
}

type eventsShowCommand struct {
	Event string `arg:"" help:"The event: its signal's constant, or its type."`
}

// Run lists what rules can be for. It reads no settings, so it works with wrong ones.
func (c *eventsListCommand) Run(s *session) error {
	a, err := newAdmin(admin.Options{})
	if err != nil {
		return err
	}
	views := a.Events()
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

// Run prints a sample of an event, which rules test --event takes as a file. It reads no settings
// either.
func (c *eventsShowCommand) Run(s *session) error {
	a, err := newAdmin(admin.Options{})
	if err != nil {
		return err
	}
	message, err := a.Sample(c.Event)
	if problem, unknown := errors.AsType[*admin.Problem](err); unknown {
		problem.Field = "" // here the event is an argument
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Stdout, "%s\n", message.Body(delivery.FormatJSON))
	return err
}
