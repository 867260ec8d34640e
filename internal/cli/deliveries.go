package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

type deliveriesListCommand struct {
	config.Database
	selectionFlags
	limitFlag
	jsonFlag

	State stateFlag `placeholder:"STATE" help:"Only in this state: pending, leased, delivered, dead or halted."`
}

// Run lists deliveries.
func (c *deliveriesListCommand) Run(ctx context.Context, s *session) error {
	return s.withDatabase(ctx, &c.Database, func(a *admin.Admin) error {
		list, err := a.Deliveries(ctx, c.selection(c.State), c.Limit)
		if err != nil {
			return err
		}
		s.note(list.Note)
		c.noteMore(s.Process, list.More, "--state, --rule, --event, --since, --until")
		const head = "ID, WEBHOOK ID, KIND, RULE, STATE, REASON, ATTEMPTS, STATUS, EVENT TYPE, DUE, CHANGED"
		return printList(s.Process, c.JSON, head, list.Deliveries, func(v *admin.DeliveryView) []any {
			return []any{
				v.ID, v.WebhookID, v.Kind, v.RuleID, v.State, v.Reason, v.Attempts, v.LastStatus, v.EventType, v.DueAt, v.UpdatedAt,
			}
		})
	})
}

type deliveriesShowCommand struct {
	config.Database
	jsonFlag

	ID   admin.DeliveryRef `arg:"" help:"The delivery's webhook-id (msg_…), or its id of deliveries list."`
	Body bool              `help:"Also show the body and what the endpoint answered; they hold learners' data."`
}

// Run shows one delivery: its row with its attempts, or the attempts alone where there is no row.
func (c *deliveriesShowCommand) Run(ctx context.Context, s *session) error {
	return s.withDatabase(ctx, &c.Database, func(a *admin.Admin) error {
		detail, logged, err := a.Delivery(ctx, c.ID, c.Body)
		switch {
		case err != nil:
			return err
		case c.JSON && detail != nil:
			return s.printJSON(detail)
		case c.JSON:
			return s.printJSON(logged)
		case detail != nil:
			return s.printDelivery(detail)
		}
		return s.printAttempts(pairs{
			"id", "there is no row of this delivery: it ended without one, or its row was removed after its end",
			"webhook id", logged.WebhookID, "kind", logged.Kind, "rule", logged.RuleID, "event type", logged.EventType,
		}, "", logged.AttemptLog)
	})
}

func (p *Process) printDelivery(v *admin.DeliveryDetail) error {
	body := ""
	if v.Body != nil {
		body = fmt.Sprintf("\n%s\n", admin.Printable(*v.Body))
	}
	return p.printAttempts(pairs{
		"id", v.ID, "webhook id", v.WebhookID, "kind", v.Kind, "rule", v.RuleID, "state", v.State, "reason", v.Reason,
		"attempts", v.Attempts, "claims", v.Claims, "last status", v.LastStatus,
		"event type", v.EventType, "event id", v.EventID, "event time", v.EventTime,
		"due", v.DueAt, "format", v.Format, "body size", v.BodySize, "created", v.CreatedAt, "changed", v.UpdatedAt,
	}, body, v.AttemptLog)
}

// printAttempts writes what is known of a delivery, and how each of its attempts went.
func (p *Process) printAttempts(known pairs, body string, attempts []admin.AttemptView) error {
	if err := p.printDetail(false, nil, known); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintln(&b, body)
	if len(attempts) == 0 {
		fmt.Fprintln(&b, "no attempts are logged")
	}
	for i := range attempts {
		a := &attempts[i]
		fmt.Fprintf(&b, "attempt %d at %s: %s\n", a.Number, moment(a.At), went(a))
		if a.Response != nil && *a.Response != "" {
			fmt.Fprintln(&b, admin.Printable(*a.Response))
		}
	}
	_, err := p.Stdout.Write([]byte(b.String()))
	return err
}

// went says how an attempt went. A filter or an expression ends one without a request.
func went(a *admin.AttemptView) string {
	took := time.Duration(a.DurationMS) * time.Millisecond
	switch class := delivery.ErrorClass(a.Error); {
	case class == delivery.ClassHalted:
		return fmt.Sprintf("%s after %s: a webfilter stopped the event", class, took)
	case class == delivery.ClassFiltered, class == delivery.ClassExpression:
		return fmt.Sprintf("nothing was sent: %s", class)
	case a.Error == "":
		return fmt.Sprintf("%d after %s", a.Status, took)
	case a.Status != 0:
		return fmt.Sprintf("%d, broken off after %s: %s", a.Status, took, a.Error)
	}
	return fmt.Sprintf("no answer: %s after %s", a.Error, took)
}

// selectionFlags select deliveries.
type selectionFlags struct {
	Rule  *int32   `placeholder:"ID" help:"Only of this webhook rule."`
	Event string   `placeholder:"TYPE" help:"Only of this event: its type, or its signal's constant."`
	Since timeFlag `placeholder:"TIME" help:"Only what changed last at this time or later: RFC 3339, or a duration ago such as 2h or 3d."`
	Until timeFlag `placeholder:"TIME" help:"Only what changed last before this time."`
}

// selection returns what the flags select, in states.
func (f *selectionFlags) selection(state stateFlag) admin.Selection {
	return admin.Selection{States: state.states, Rule: f.Rule, Event: f.Event, Since: f.Since.Moment, Until: f.Until.Moment}
}

// timeFlag is a moment.
type timeFlag struct{ admin.Moment }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *timeFlag) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err == nil {
		f.Moment = admin.Moment{At: at}
		return nil
	}
	ago, err := config.ParseDuration(string(text))
	if err != nil || ago <= 0 {
		return fmt.Errorf("%q is not a time: write RFC 3339 such as 2026-03-04T05:06:07Z, or a duration ago such as 2h or 3d", text)
	}
	f.Moment = admin.Moment{Ago: ago}
	return nil
}

// stateFlag is a state by its name, none where the flag was not used.
type stateFlag struct{ states []delivery.State }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *stateFlag) UnmarshalText(text []byte) error {
	state, err := delivery.ParseState(string(text))
	f.states = []delivery.State{state}
	return err
}
