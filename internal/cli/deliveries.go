package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type deliveriesListCommand struct {
	config.Database
	choiceFlags
	limitFlag

	State stateFlag `placeholder:"STATE" help:"Only in this state: pending, leased, delivered, dead or halted."`
	JSON  bool      `help:"Print one JSON document." name:"json"`
}

// deliveryView is a delivery as lists show it. Scripts rely on its names.
type deliveryView struct {
	ID         uint64     `json:"id"` // the row's number
	WebhookID  string     `json:"webhook_id"`
	RuleID     int32      `json:"rule_id"`
	Kind       string     `json:"kind"`
	State      string     `json:"state"`
	Reason     string     `json:"reason"`
	Attempts   int        `json:"attempts"`
	LastStatus int        `json:"last_status"` // 0 where no answer came
	EventType  string     `json:"event_type"`
	EventID    string     `json:"event_id"`
	EventTime  *time.Time `json:"event_time"` // null where it is not known
	DueAt      *time.Time `json:"due_at"`     // null for a delivery that has ended
	BodySize   int64      `json:"body_size"`  // 0 where the body was not kept
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func viewDelivery(row *store.Summary) deliveryView {
	return deliveryView{
		ID: row.RowID, WebhookID: row.ID.String(), RuleID: row.RuleID, Kind: row.Kind.String(), State: row.State.String(),
		Reason: string(row.Reason), Attempts: row.Attempts, LastStatus: row.LastStatus, EventType: row.EventType, EventID: row.EventID,
		EventTime: orNull(row.EventTime), DueAt: orNull(row.DueAt), BodySize: row.BodySize, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}

// Run lists deliveries.
func (c *deliveriesListCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	var found []store.Summary
	var more bool
	err := s.withStore(&c.Database, func(st *store.Store) error {
		f, _, err := c.filter(ctx, st)
		if err != nil {
			return err
		}
		f.States = c.State.states
		found, more, err = st.List(ctx, f, c.Limit)
		return err
	})
	if err != nil {
		return err
	}
	views := make([]deliveryView, len(found))
	for i := range found {
		views[i] = viewDelivery(&found[i])
	}
	c.noteEvent(s.Process)
	c.noteMore(s.Process, more, "--state", "--rule", "--event", "--since", "--until")
	if c.JSON {
		return s.printJSON(views)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tWEBHOOK ID\tKIND\tRULE\tSTATE\tREASON\tATTEMPTS\tSTATUS\tEVENT TYPE\tDUE\tCHANGED")
	for i, v := range views {
		fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", v.ID, v.WebhookID, v.Kind, v.RuleID, v.State, cell(v.Reason),
			v.Attempts, v.LastStatus, cell(v.EventType), cell(moment(found[i].DueAt)), moment(v.UpdatedAt))
	}
	return table.Flush()
}
