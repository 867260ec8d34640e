package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

type deliveriesShowCommand struct {
	config.Database

	ID   admin.DeliveryRef `arg:"" help:"The delivery's webhook-id (msg_…), or its id of deliveries list."`
	Body bool              `help:"Also show the body and what the endpoint answered; they hold learners' data."`
	JSON bool              `help:"Print one JSON document." name:"json"`
}

// Run shows one delivery: its row with its attempts, or the attempts alone where there is no row.
func (c *deliveriesShowCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	var detail *admin.DeliveryDetail
	var logged *admin.LoggedDelivery
	err := s.withAdmin(&c.Database, admin.Options{}, func(a *admin.Admin) (err error) {
		detail, logged, err = a.Delivery(ctx, c.ID, c.Body)
		return err
	})
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
	return s.printLogged(logged)
}

func (p *Process) printDelivery(v *admin.DeliveryDetail) error {
	pairs := [][2]string{
		{"id", strconv.FormatUint(v.ID, 10)},
		{"webhook id", v.WebhookID},
		{"kind", v.Kind},
		{"rule", strconv.Itoa(int(v.RuleID))},
		{"state", v.State},
		{"reason", v.Reason},
		{"attempts", strconv.Itoa(v.Attempts)},
		{"claims", strconv.Itoa(v.Claims)},
		{"last status", strconv.Itoa(v.LastStatus)},
		{"event type", v.EventType},
		{"event id", v.EventID},
		{"event time", optional(v.EventTime)},
		{"due", optional(v.DueAt)},
		{"format", v.Format},
		{"body size", strconv.FormatInt(v.BodySize, 10)},
		{"created", moment(v.CreatedAt)},
		{"changed", moment(v.UpdatedAt)},
	}
	if err := p.printPairs(pairs); err != nil {
		return err
	}
	body := ""
	if v.Body != nil {
		body = fmt.Sprintf("\n%s\n", admin.Printable(*v.Body))
	}
	_, err := p.Stdout.Write([]byte(body + attemptLines(v.AttemptLog)))
	return err
}

func (p *Process) printLogged(v *admin.LoggedDelivery) error {
	pairs := [][2]string{
		{"id", "there is no row of this delivery: it ended without one, or its row was removed after its end"},
		{"webhook id", v.WebhookID},
		{"kind", v.Kind},
		{"rule", strconv.Itoa(int(v.RuleID))},
		{"event type", v.EventType},
	}
	if err := p.printPairs(pairs); err != nil {
		return err
	}
	_, err := p.Stdout.Write([]byte(attemptLines(v.AttemptLog)))
	return err
}

// attemptLines says how each attempt went, after an empty line.
func attemptLines(attempts []admin.AttemptView) string {
	if len(attempts) == 0 {
		return "\nno attempts are logged\n"
	}
	var b strings.Builder
	fmt.Fprintln(&b)
	for i := range attempts {
		a := &attempts[i]
		fmt.Fprintf(&b, "attempt %d at %s: %s\n", a.Number, moment(a.At), went(a))
		if a.Response != nil && *a.Response != "" {
			fmt.Fprintln(&b, admin.Printable(*a.Response))
		}
	}
	return b.String()
}

// went says how an attempt went. One that a filter or an expression ended made no request to the
// rule's endpoint.
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

func optional(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}
