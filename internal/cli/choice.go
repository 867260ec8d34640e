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
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// choiceFlags choose deliveries.
type choiceFlags struct {
	Rule  *int32   `placeholder:"ID" help:"Only of this webhook rule."`
	Event string   `placeholder:"TYPE" help:"Only of this event: its type, or its signal's constant."`
	Since timeFlag `placeholder:"TIME" help:"Only what changed last at this time or later: RFC 3339, or a duration ago such as 2h or 3d."`
	Until timeFlag `placeholder:"TIME" help:"Only what changed last before this time."`
}

// given tells whether any flag was used.
func (c *choiceFlags) given() bool {
	return c.Rule != nil || c.Event != "" || c.Since != (timeFlag{}) || c.Until != (timeFlag{})
}

// filter returns the filter that the flags mean, and the database's time that "ago" was counted from.
func (c *choiceFlags) filter(ctx context.Context, st *store.Store) (f store.Selection, now time.Time, err error) {
	if now, err = st.Now(ctx); err != nil {
		return f, now, err
	}
	f.Since, f.Until = c.Since.from(now), c.Until.from(now)
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return f, now, usagef("--since %s is not before --until %s", moment(f.Since), moment(f.Until))
	}
	if c.Rule != nil {
		f.Lane = &delivery.Lane{Kind: delivery.KindWebhook, RuleID: *c.Rule}
	}
	f.EventType, _, err = c.eventType()
	return f, now, err
}

// eventType returns the type of the event that is meant, "" where none is named, and what people should know of it, or "".
func (c *choiceFlags) eventType() (eventType, note string, err error) {
	if c.Event == "" {
		return "", "", nil
	}
	a, err := newAdmin(admin.Options{})
	if err != nil {
		return "", "", err
	}
	return a.EventType(c.Event)
}

// noteEvent says beside the result that the event chosen by is none of the platform's: a mistyped one looks like one that never came.
func (c *choiceFlags) noteEvent(p *Process) {
	if _, note, err := c.eventType(); err == nil && note != "" {
		fmt.Fprintf(p.Stderr, "webhook-dispatcher: note: %s\n", note)
	}
}

// timeFlag is a moment, or a duration before now.
type timeFlag struct {
	at  time.Time
	ago time.Duration
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *timeFlag) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err == nil {
		*f = timeFlag{at: at}
		return nil
	}
	ago, err := config.ParseDuration(string(text))
	if err != nil || ago <= 0 {
		return fmt.Errorf("%q is no time: write RFC 3339 such as 2026-03-04T05:06:07Z, or a duration ago such as 2h or 3d", text)
	}
	*f = timeFlag{ago: ago}
	return nil
}

// from returns the moment, seen from now; zero where the flag was not used.
func (f timeFlag) from(now time.Time) time.Time {
	if f.ago > 0 {
		return now.Add(-f.ago)
	}
	return f.at
}

// stateFlag is a state by its name, none where the flag was not used.
type stateFlag struct{ states []delivery.State }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *stateFlag) UnmarshalText(text []byte) error {
	state, err := delivery.ParseState(string(text))
	f.states = []delivery.State{state}
	return err
}

// deliveryArg names a delivery by its webhook id or by the number of its row.
type deliveryArg struct {
	id  delivery.ID
	row uint64 // 0: by id
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *deliveryArg) UnmarshalText(text []byte) error {
	id, err := delivery.ParseID(string(text))
	if err == nil {
		*a = deliveryArg{id: id}
		return nil
	}
	row, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || row == 0 {
		return fmt.Errorf("%q is no delivery: write its webhook-id, msg_ and 32 hexadecimal digits, or its id of deliveries list", text)
	}
	*a = deliveryArg{row: row}
	return nil
}

// String returns the argument as commands write it.
func (a deliveryArg) String() string {
	if a.row > 0 {
		return strconv.FormatUint(a.row, 10)
	}
	return a.id.String()
}

func (a deliveryArg) find(ctx context.Context, st *store.Store) (store.Summary, bool, error) {
	if a.row > 0 {
		return st.SummaryOfRow(ctx, a.row)
	}
	return st.Summary(ctx, a.id)
}

// limitFlag bounds a list.
type limitFlag struct {
	Limit int `default:"100" placeholder:"N" help:"At most this many, up to 10000 (${default})."`
}

const maxLimit = 10_000

func (l limitFlag) check() error {
	if l.Limit < 1 || l.Limit > maxLimit {
		return usagef("--limit %d: write a number from 1 to %d", l.Limit, maxLimit)
	}
	return nil
}

// noteMore says that a list goes on, beside it: the list itself may be read by a program.
func (l limitFlag) noteMore(p *Process, more bool, narrower ...string) {
	if more {
		fmt.Fprintf(p.Stderr, "webhook-dispatcher: there are more than %d: raise --limit, or narrow the list with %s\n",
			l.Limit, strings.Join(narrower, ", "))
	}
}
