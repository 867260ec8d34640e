package cli

import (
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

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

// limitFlag bounds a list.
type limitFlag struct {
	Limit int `default:"100" placeholder:"N" help:"At most this many, up to 10000 (${default})."`
}

// noteMore says that a list goes on. It does so on stderr, because a program may read the list.
func (l limitFlag) noteMore(p *Process, more bool, narrower string) {
	if more {
		fmt.Fprintf(p.Stderr, "webhook-dispatcher: there are more than %d: raise --limit, or narrow the list with %s\n", l.Limit, narrower)
	}
}

// jsonFlag chooses how a command prints its result.
type jsonFlag struct {
	JSON bool `help:"Print one JSON document." name:"json"`
}
