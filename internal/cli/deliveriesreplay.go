package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type deliveriesReplayCommand struct {
	config.Database
	choiceFlags

	IDs   []deliveryArg `arg:"" optional:"" name:"id" help:"Webhook-ids (msg_…) or ids of deliveries list; or --state dead."`
	State stateFlag     `placeholder:"dead" help:"All dead deliveries that the other flags leave."`
	Yes   bool          `help:"Do it. Without, the command only says how many there are."`
}

// check refuses what this version cannot do, and what is ambiguous.
func (c *deliveriesReplayCommand) check() error {
	byState := len(c.State.states) > 0
	switch {
	case byState && c.State.states[0] != delivery.Dead:
		return usagef("--state %s: this version replays dead deliveries only", c.State.states[0])
	case len(c.IDs) > 0 && (byState || c.given()):
		return usagef("write either ids or --state dead with --rule, --event, --since and --until, not both")
	case len(c.IDs) == 0 && !byState:
		return usagef("write the ids of the deliveries to replay, or --state dead for all that are dead")
	}
	return nil
}

// Run says how many deliveries would be replayed, and replays them if asked to.
func (c *deliveriesReplayCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	return s.withStore(&c.Database, func(st *store.Store) error {
		if len(c.IDs) > 0 {
			return c.replayIDs(ctx, s, st)
		}
		return c.replayDead(ctx, s, st)
	})
}

const bodyGone = "its body was not kept (too_large)"

// replayIDs replays those of the named deliveries that can be. Each other is named; the exit code tells that there was one.
func (c *deliveriesReplayCommand) replayIDs(ctx context.Context, s *session, st *store.Store) error {
	var rows []uint64
	var refused []string
	seen := make(map[uint64]bool)
	for _, arg := range c.IDs {
		row, found, err := arg.find(ctx, st)
		if err != nil {
			return err
		}
		why := ""
		switch {
		case !found:
			why = "there is no such row"
		case row.State != delivery.Dead:
			why = fmt.Sprintf("it is %s; this version replays dead deliveries only", row.State)
		case row.BodySize == 0:
			why = bodyGone
		case !seen[row.RowID]:
			seen[row.RowID] = true
			rows = append(rows, row.RowID)
		}
		if why != "" {
			refused = append(refused, fmt.Sprintf("%s cannot be replayed: %s", arg, why))
		}
	}
	err := c.do(s, len(rows), refused, func() (int, error) { return st.Replay(ctx, rows) })
	if n := len(refused); err == nil && n > 0 {
		err = fmt.Errorf("%s cannot be replayed", counted(n, "delivery", "deliveries"))
	}
	return err
}

// replayDead replays all that the flags choose. Those without a body are a part of every such choice, and no failure.
func (c *deliveriesReplayCommand) replayDead(ctx context.Context, s *session, st *store.Store) error {
	f, now, err := c.filter(ctx, st)
	if err != nil {
		return err
	}
	// What dies from now on, such as what is replayed and fails again, is not meant.
	if f.Until.IsZero() || f.Until.After(now) {
		f.Until = now
	}
	dead, err := st.CountDead(ctx, f)
	if err != nil {
		return err
	}
	var refused []string
	for _, id := range dead.Examples {
		refused = append(refused, fmt.Sprintf("%s cannot be replayed: %s", id, bodyGone))
	}
	if dead.Bodyless > 0 {
		refused = append(refused, counted(dead.Bodyless, "dead delivery has", "dead deliveries have")+" no body to send")
	}
	return c.do(s, dead.Replayable, refused, func() (int, error) { return st.ReplayDead(ctx, f) })
}

// do prints the count first, then what is refused, and then runs replay if that was asked for and there is something to do.
func (c *deliveriesReplayCommand) do(s *session, count int, refused []string, replay func() (int, error)) error {
	fmt.Fprintf(s.Stdout, "%s can be replayed\n", counted(count, "dead delivery", "dead deliveries"))
	for _, line := range refused {
		fmt.Fprintln(s.Stdout, line)
	}
	if count == 0 {
		return nil
	}
	if !c.Yes {
		_, err := fmt.Fprintln(s.Stdout, "nothing was done; add --yes to replay")
		return err
	}
	replayed, err := replay()
	fmt.Fprintf(s.Stdout, "%s pending again\n", counted(replayed, "delivery is", "deliveries are"))
	return err
}
