package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

type deliveriesListCommand struct {
	config.Database
	selectionFlags
	limitFlag

	State stateFlag `placeholder:"STATE" help:"Only in this state: pending, leased, delivered, dead or halted."`
	JSON  bool      `help:"Print one JSON document." name:"json"`
}

// Run lists deliveries.
func (c *deliveriesListCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	var list *admin.DeliveryList
	err := s.withAdmin(&c.Database, admin.Options{}, func(a *admin.Admin) (err error) {
		list, err = a.Deliveries(ctx, c.selection(c.State), c.Limit)
		return err
	})
	if err != nil {
		return err
	}
	s.note(list.Note)
	c.noteMore(s.Process, list.More, "--state", "--rule", "--event", "--since", "--until")
	if c.JSON {
		return s.printJSON(list.Deliveries)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tWEBHOOK ID\tKIND\tRULE\tSTATE\tREASON\tATTEMPTS\tSTATUS\tEVENT TYPE\tDUE\tCHANGED")
	for i := range list.Deliveries {
		v := &list.Deliveries[i]
		fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", v.ID, v.WebhookID, v.Kind, v.RuleID, v.State, cell(v.Reason),
			v.Attempts, v.LastStatus, cell(v.EventType), cell(optional(v.DueAt)), moment(v.UpdatedAt))
	}
	return table.Flush()
}
