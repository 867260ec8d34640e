package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
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

type deliveriesShowCommand struct {
	config.Database

	ID   deliveryArg `arg:"" help:"The delivery's webhook-id (msg_…), or its id of deliveries list."`
	Body bool        `help:"Also show the body and what the endpoint answered; they hold learners' data."`
	JSON bool        `help:"Print one JSON document." name:"json"`
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

// shownDelivery is a delivery with its attempts.
type shownDelivery struct {
	deliveryView

	Claims     int           `json:"claims"`
	Format     string        `json:"format"`
	Body       *string       `json:"body,omitempty"` // with --body; what is not UTF-8 in it becomes U+FFFD
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

// Run shows one delivery.
func (c *deliveriesShowCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	var shown shownDelivery
	err := s.withStore(&c.Database, func(st *store.Store) error {
		var err error
		shown, err = c.read(ctx, st)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(shown)
	}
	return s.printDelivery(&shown)
}

func (c *deliveriesShowCommand) read(ctx context.Context, st *store.Store) (shown shownDelivery, err error) {
	row, found, err := c.ID.find(ctx, st)
	if err == nil && !found {
		err = fmt.Errorf("there is no row of delivery %s: rows are only of deliveries that did not end at their first try, and are removed "+
			"some time after their end", c.ID)
	}
	if err != nil {
		return shown, err
	}
	shown = shownDelivery{deliveryView: viewDelivery(&row), Claims: row.Claims, Format: row.Format.String(), AttemptLog: []attemptView{}}
	if c.Body {
		whole, _, err := st.Get(ctx, row.ID) // gone meanwhile: there is no body to show
		if err != nil {
			return shown, err
		}
		shown.Body = validText(whole.Body)
	}
	attempts, err := st.Attempts(ctx, row.ID)
	if err != nil {
		return shown, err
	}
	for i := range attempts {
		a := &attempts[i]
		v := attemptView{Number: a.Number, At: a.At, Status: a.Status, Error: string(a.Class), DurationMS: a.Duration.Milliseconds()}
		if c.Body {
			v.Response = validText(a.Response)
		}
		shown.AttemptLog = append(shown.AttemptLog, v)
	}
	return shown, nil
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
	var b strings.Builder
	if v.Body != nil {
		fmt.Fprintf(&b, "\n%s\n", printable(*v.Body))
	}
	if len(v.AttemptLog) == 0 {
		fmt.Fprintln(&b, "\nno attempts are logged")
	}
	for i, a := range v.AttemptLog {
		if i == 0 {
			fmt.Fprintln(&b)
		}
		fmt.Fprintf(&b, "attempt %d at %s: ", a.Number, moment(a.At))
		took := time.Duration(a.DurationMS) * time.Millisecond
		switch {
		case a.Error == "":
			fmt.Fprintf(&b, "%d after %s\n", a.Status, took)
		case a.Status != 0:
			fmt.Fprintf(&b, "%d, broken off after %s: %s\n", a.Status, took, a.Error)
		default:
			fmt.Fprintf(&b, "no answer: %s after %s\n", a.Error, took)
		}
		if a.Response != nil && *a.Response != "" {
			fmt.Fprintln(&b, printable(*a.Response))
		}
	}
	_, err := p.Stdout.Write([]byte(b.String()))
	return err
}

func optional(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}
