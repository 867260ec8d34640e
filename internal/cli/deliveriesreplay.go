package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/replay"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type deliveriesReplayCommand struct {
	ruleSettings
	config.Bus // of the daemon; asked for with --from-topic and --new-id only
	choiceFlags

	IDs   []deliveryArg `arg:"" optional:"" name:"id" help:"Webhook-ids (msg_…) or ids of deliveries list."`
	State stateFlag     `placeholder:"dead" help:"All dead deliveries that the other flags leave; delivered ones with --new-id."`

	FromTopic bool `name:"from-topic" help:"All events for --rule that came to the topics from --since on, by the records' times."`
	NewID     bool `name:"new-id" help:"Under a new webhook-id. Where a row has no body any more, its event is read from the topics."`
	Yes       bool `help:"Do it. Without, the command only says how many there are."`
	JSON      bool `help:"Print one JSON document." name:"json"`
}

// check refuses what is ambiguous, and what cannot be done.
func (c *deliveriesReplayCommand) check() error {
	byState := len(c.State.states) > 0
	switch {
	case c.FromTopic && (byState || len(c.IDs) > 0):
		return usagef("--from-topic takes neither ids nor --state: it makes the deliveries of all events, whatever rows there are")
	case c.FromTopic && (c.Rule == nil || c.Since == (timeFlag{})):
		return usagef("--from-topic: write --rule ID, whose deliveries to make, and --since TIME, from when on")
	case c.FromTopic:
		return nil
	case len(c.IDs) > 0 && (byState || c.given()):
		return usagef("write either ids or --state dead with --rule, --event, --since and --until, not both")
	case len(c.IDs) == 0 && !byState:
		return usagef("write the ids of the deliveries to replay, --state dead for all that are dead, or --from-topic for all events of a rule")
	case byState && c.State.states[0] == delivery.Delivered && !c.NewID:
		return usagef("--state delivered: a receiver drops a webhook-id that it has taken; add --new-id to send them under new ones")
	case byState && c.State.states[0] != delivery.Dead && c.State.states[0] != delivery.Delivered:
		return usagef("--state %s: only dead deliveries can be replayed, and delivered ones with --new-id", c.State.states[0])
	}
	return nil
}

// Run says how many deliveries would be replayed, and replays them if asked to.
func (c *deliveriesReplayCommand) Run(ctx context.Context, s *session) error {
	groups := c.groups()
	if c.FromTopic || c.NewID {
		groups = append(groups, &c.Bus)
	}
	if err := errors.Join(c.check(), s.settings(ctx, groups...)); err != nil {
		return err
	}
	return s.withStore(&c.Database, func(st *store.Store) error {
		switch {
		case c.FromTopic:
			return c.fromTopic(ctx, s, st)
		case c.NewID:
			return c.anew(ctx, s, st)
		case len(c.IDs) > 0:
			return c.replayIDs(ctx, s, st)
		}
		return c.replayDead(ctx, s, st)
	})
}

// withReplayer runs use with a replayer of its own run.
func withReplayer(bus *config.Bus, st *store.Store, apply bool, use func(*replay.Replayer) error) error {
	o := replay.Options{Rows: st, Records: st, Apply: apply}
	if _, err := rand.Read(o.Run[:]); err != nil {
		return err
	}
	r, closeAll, err := app.NewReplayer(bus, o)
	if err != nil {
		return usageError{err} // nothing has been connected to: what fails is a setting
	}
	defer closeAll()
	return use(r)
}

// replayView is the result of a replay as JSON.
type replayView struct {
	Applied      bool          `json:"applied"`       // false: --yes was not given, and nothing was done
	Replayable   int           `json:"replayable"`    // deliveries that can be replayed
	Replayed     int           `json:"replayed"`      // deliveries that are pending now
	RefusedCount int           `json:"refused_count"` // deliveries that cannot be
	Refused      []refusedView `json:"refused"`       // they, or some of them
}

type refusedView struct {
	Delivery string `json:"delivery"` // as it was written, else its webhook-id
	Reason   string `json:"reason"`
}

func (v *replayView) refuse(delivery, why string) {
	v.RefusedCount++
	v.Refused = append(v.Refused, refusedView{delivery, why})
}

// failure is how a command ends that was given deliveries which cannot be replayed.
func (v *replayView) failure() error {
	if v.RefusedCount == 0 {
		return nil
	}
	return fmt.Errorf("%s cannot be replayed", counted(v.RefusedCount, "delivery", "deliveries"))
}

func bodyGone(reason delivery.Reason) string {
	return fmt.Sprintf("its body was not kept (%s)", reason)
}

// replayIDs replays those of the named deliveries that can be. Each other is named; the exit code tells that there was one.
func (c *deliveriesReplayCommand) replayIDs(ctx context.Context, s *session, st *store.Store) error {
	var rows []uint64
	view := &replayView{Applied: c.Yes, Refused: []refusedView{}}
	seen := make(map[uint64]bool)
	for _, arg := range c.IDs {
		row, found, err := arg.find(ctx, st)
		if err != nil {
			return err
		}
		switch {
		case !found:
			view.refuse(arg.String(), "there is no such row")
		case row.State == delivery.Delivered:
			view.refuse(arg.String(), "it is delivered; add --new-id to send it again under a new webhook-id")
		case row.State != delivery.Dead:
			view.refuse(arg.String(), fmt.Sprintf("it is %s", row.State))
		case row.BodySize == 0:
			view.refuse(arg.String(), bodyGone(row.Reason))
		case !seen[row.RowID]:
			seen[row.RowID] = true
			rows = append(rows, row.RowID)
		}
	}
	view.Replayable = len(rows)
	err := c.do(s, view, "", func() (int, error) { return st.Replay(ctx, rows) })
	if err != nil {
		return err
	}
	return view.failure()
}

// replayDead replays all that the flags choose. Those without a body are a part of every such choice, and no failure.
func (c *deliveriesReplayCommand) replayDead(ctx context.Context, s *session, st *store.Store) error {
	f, err := c.ended(ctx, s, st)
	if err != nil {
		return err
	}
	dead, err := st.CountDead(ctx, f)
	if err != nil {
		return err
	}
	view := &replayView{Applied: c.Yes, Replayable: dead.Replayable, Refused: []refusedView{}}
	for _, id := range dead.Examples {
		row, found, err := st.Summary(ctx, id)
		if err != nil {
			return err
		}
		if found {
			view.refuse(id.String(), bodyGone(row.Reason))
		}
	}
	view.RefusedCount = dead.Bodyless
	more := ""
	if dead.Bodyless > 0 {
		more = counted(dead.Bodyless, "dead delivery has", "dead deliveries have") + " no body to send"
	}
	return c.do(s, view, more, func() (int, error) { return st.ReplayDead(ctx, f) })
}

// ended returns the filter of the flags. What ends from now on, such as what is replayed and fails again, is not meant.
func (c *deliveriesReplayCommand) ended(ctx context.Context, s *session, st *store.Store) (store.Selection, error) {
	f, now, err := c.filter(ctx, st)
	c.noteEvent(s.Process)
	if f.Until.IsZero() || f.Until.After(now) {
		f.Until = now
	}
	return f, err
}

// do prints the count first, then what is refused and more, and then runs replay if that was asked for and there is something to do.
func (c *deliveriesReplayCommand) do(s *session, view *replayView, more string, replay func() (int, error)) (err error) {
	apply := c.Yes && view.Replayable > 0
	if c.JSON {
		if apply {
			view.Replayed, err = replay()
		}
		return errors.Join(s.printJSON(view), err)
	}
	fmt.Fprintf(s.Stdout, "%s can be replayed\n", counted(view.Replayable, "dead delivery", "dead deliveries"))
	s.printRefused(view)
	if more != "" {
		fmt.Fprintln(s.Stdout, more)
	}
	switch {
	case apply:
		view.Replayed, err = replay()
		fmt.Fprintf(s.Stdout, "%s pending again\n", counted(view.Replayed, "delivery is", "deliveries are"))
	case view.Replayable > 0:
		fmt.Fprintln(s.Stdout, notDone)
	}
	return err
}

const notDone = "nothing was done; add --yes to replay"

func (p *Process) printRefused(view *replayView) {
	for _, r := range view.Refused {
		fmt.Fprintf(p.Stdout, "%s cannot be replayed: %s\n", r.Delivery, r.Reason)
	}
}
