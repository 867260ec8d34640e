package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type setCommand struct {
	config.Database
	kindFlag

	ID         int32 `arg:"" help:"The rule's id."`
	Enable     bool  `xor:"enabled" help:"Switch the rule on."`
	Disable    bool  `xor:"enabled" help:"Switch the rule off: its waiting deliveries wait on, and new events make none."`
	Resume     bool  `help:"End the rule's pause: its waiting deliveries are sent, and new ones at once."`
	ReplayDead bool  `help:"With --resume: then send the rule's dead deliveries again under the same webhook-id. Says how many."`
	Yes        bool  `help:"With --replay-dead: do it. Without, it only says how many there are."`
}

// check refuses a call that would change nothing, and flags that mean nothing without another.
func (c *setCommand) check() error {
	switch {
	case c.ReplayDead && !c.Resume:
		return usagef("--replay-dead comes with --resume; to replay alone, run deliveries replay --state dead --rule %d", c.ID)
	case c.Yes && !c.ReplayDead:
		return usagef("--yes comes with --replay-dead; what else rules set does needs no confirmation")
	case !c.Enable && !c.Disable && !c.Resume:
		return usagef("write what to change: --enable, --disable or --resume")
	}
	return nil
}

// Run changes the rule.
func (c *setCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.kindFlag.check(), c.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	return s.withStore(&c.Database, func(st *store.Store) error {
		rules, err := readRules(ctx, st)
		if err != nil {
			return err
		}
		e, err := rules.entry(c.ID)
		if err != nil {
			return err
		}
		for _, step := range []struct {
			asked bool
			do    func(context.Context, *session, *store.Store, *rule.Entry) error
		}{
			{c.Enable || c.Disable, c.setEnabled},
			{c.Resume, c.resume},
			{c.ReplayDead, c.replayDead},
		} {
			if !step.asked {
				continue
			}
			if err := step.do(ctx, s, st, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *setCommand) setEnabled(ctx context.Context, s *session, st *store.Store, _ *rule.Entry) error {
	changed, err := st.SetWebhookEnabled(ctx, c.ID, c.Enable)
	if err == nil && changed && c.Enable { // what it failed before does not count: nothing was tried meanwhile
		err = st.ClearFailing(ctx, delivery.Lane{Kind: delivery.KindWebhook, RuleID: c.ID})
	}
	if err != nil {
		return err
	}
	state, already := "disabled", ""
	if c.Enable {
		state = "enabled"
	}
	if !changed {
		already = " already"
	}
	_, err = fmt.Fprintf(s.Stdout, "rule %d is %s%s\n", c.ID, state, already)
	return err
}

func (c *setCommand) resume(ctx context.Context, s *session, st *store.Store, e *rule.Entry) error {
	resumed, err := st.ResumeRule(ctx, delivery.Lane{Kind: e.Kind, RuleID: e.Row.ID})
	if err != nil {
		return err
	}
	if !resumed {
		_, err = fmt.Fprintf(s.Stdout, "rule %d is not paused\n", c.ID)
		return err
	}
	but := ""
	switch {
	case e.Rule == nil:
		but = ", but faulty, so nothing is sent: " + e.Fault
	case c.Disable || !c.Enable && !e.Row.Enabled:
		but = fmt.Sprintf(", but disabled, so nothing is sent: run rules set %d --enable", c.ID)
	}
	_, err = fmt.Fprintf(s.Stdout, "rule %d is resumed%s\n", c.ID, but)
	return err
}

// replayDead does what deliveries replay does with the rule's dead deliveries.
func (c *setCommand) replayDead(ctx context.Context, s *session, st *store.Store, _ *rule.Entry) error {
	replay := deliveriesReplayCommand{choiceFlags: choiceFlags{Rule: &c.ID}, Yes: c.Yes}
	return replay.replayDead(ctx, s, st)
}
