package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type deliveriesShowCommand struct {
	config.Database

	ID   deliveryArg `arg:"" help:"The delivery's webhook-id (msg_…), or its id of deliveries list."`
	Body bool        `help:"Also show the body and what the endpoint answered; they hold learners' data."`
	JSON bool        `help:"Print one JSON document." name:"json"`
}

// shownDelivery is a delivery with its attempts.
type shownDelivery struct {
	deliveryView

	Claims     int           `json:"claims"`
	Format     string        `json:"format"`
	Body       *string       `json:"body,omitempty"` // with --body; what is not UTF-8 in it becomes U+FFFD
	AttemptLog []attemptView `json:"attempt_log"`
}

// loggedDelivery is a delivery that has no row, as far as the attempt log knows it.
type loggedDelivery struct {
	ID         *uint64       `json:"id"` // null: there is no row
	WebhookID  string        `json:"webhook_id"`
	RuleID     int32         `json:"rule_id"`
	Kind       string        `json:"kind"`
	State      *string       `json:"state"` // null: only rows have one
	EventType  string        `json:"event_type"`
	AttemptLog []attemptView `json:"attempt_log"`
}

type attemptView struct {
	Number     int       `json:"number"` // counts from 1 again after a replay
	At         time.Time `json:"at"`
	Status     int       `json:"status"` // 0 where no answer came
	Error      string    `json:"error"`  // why none came, or not all of it, or ""
	DurationMS int64     `json:"duration_ms"`
	Response   *string   `json:"response,omitempty"` // with --body; the beginning of the answer's body
}

// Run shows one delivery: its row with its attempts, or the attempts alone where there is no row.
func (c *deliveriesShowCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	var shown *shownDelivery
	var logged *loggedDelivery
	err := s.withStore(&c.Database, func(st *store.Store) error {
		row, found, err := c.ID.find(ctx, st)
		switch {
		case err != nil:
			return err
		case found:
			shown, err = c.read(ctx, st, &row)
		default:
			logged, err = c.readLog(ctx, st)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case c.JSON && shown != nil:
		return s.printJSON(shown)
	case c.JSON:
		return s.printJSON(logged)
	case shown != nil:
		return s.printDelivery(shown)
	}
	return s.printLogged(logged)
}

func (c *deliveriesShowCommand) read(ctx context.Context, st *store.Store, row *store.Summary) (shown *shownDelivery, err error) {
	shown = &shownDelivery{deliveryView: viewDelivery(row), Claims: row.Claims, Format: row.Format.String()}
	if c.Body {
		whole, _, err := st.Get(ctx, row.ID) // gone meanwhile: there is no body to show
		if err != nil {
			return nil, err
		}
		shown.Body = validText(whole.Body)
	}
	attempts, err := st.Attempts(ctx, row.ID)
	shown.AttemptLog = c.views(attempts)
	return shown, err
}

// readLog looks for the attempts of a delivery that has no row. They know only its webhook-id.
func (c *deliveriesShowCommand) readLog(ctx context.Context, st *store.Store) (*loggedDelivery, error) {
	var attempts []delivery.Attempt
	if c.ID.row == 0 {
		var err error
		if attempts, err = st.Attempts(ctx, c.ID.id); err != nil {
			return nil, err
		}
	}
	if len(attempts) == 0 {
		return nil, fmt.Errorf("there is no row of delivery %s, and no attempt is logged: rows are only of deliveries that did not end at their "+
			"first try, and are removed some time after their end; attempts without a row are logged with WEBHOOK_DISPATCHER_ATTEMPT_LOG=all, "+
			"and where they failed or a webfilter stopped the event", c.ID)
	}
	first := &attempts[0]
	return &loggedDelivery{
		WebhookID: c.ID.id.String(), RuleID: first.RuleID, Kind: first.Kind.String(), EventType: first.EventType, AttemptLog: c.views(attempts),
	}, nil
}

func (c *deliveriesShowCommand) views(attempts []delivery.Attempt) []attemptView {
	views := make([]attemptView, len(attempts))
	for i := range attempts {
		a := &attempts[i]
		views[i] = attemptView{Number: a.Number, At: a.At, Status: a.Status, Error: string(a.Class), DurationMS: a.Duration.Milliseconds()}
		if c.Body {
			views[i].Response = validText(a.Response)
		}
	}
	return views
}

func validText(raw []byte) *string {
	text := strings.ToValidUTF8(string(raw), "\uFFFD")
	return &text
}

func (p *Process) printDelivery(v *shownDelivery) error {
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
		body = fmt.Sprintf("\n%s\n", printable(*v.Body))
	}
	_, err := p.Stdout.Write([]byte(body + attemptLines(v.AttemptLog)))
	return err
}

func (p *Process) printLogged(v *loggedDelivery) error {
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

// attemptLines says how each attempt went, behind an empty line.
func attemptLines(attempts []attemptView) string {
	if len(attempts) == 0 {
		return "\nno attempts are logged\n"
	}
	var b strings.Builder
	fmt.Fprintln(&b)
	for i := range attempts {
		a := &attempts[i]
		fmt.Fprintf(&b, "attempt %d at %s: %s\n", a.Number, moment(a.At), a.went())
		if a.Response != nil && *a.Response != "" {
			fmt.Fprintln(&b, printable(*a.Response))
		}
	}
	return b.String()
}

// went says how an attempt went. What filters and expressions end made no request to the rule's endpoint.
func (a *attemptView) went() string {
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
