package cli

import (
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

type eventsListCommand struct{ jsonFlag }

// Run lists what rules can be for. It reads no settings, so it works with wrong ones.
func (c *eventsListCommand) Run(s *session) error {
	a, err := newAdmin(admin.Options{})
	if err != nil {
		return err
	}
	views := a.Events()
	return printList(s.Process, c.JSON, "EVENT, KIND, EVENT TYPE, ON BUS, PLUGIN", views, func(v *admin.EventView) []any {
		return []any{v.Event, v.Kind, v.EventType, v.OnBus, v.Plugin}
	})
}

type eventsShowCommand struct {
	Event string `arg:"" help:"The event: its signal's constant, or its type."`
}

// Run prints a sample, which rules test --event takes as a file. It reads no settings either.
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
