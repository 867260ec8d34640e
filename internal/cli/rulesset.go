package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type setCommand struct {
	ruleSettings
	kindFlag
	optionFlags
	filterFlags `group:"Flags of a webfilter row (--kind webfilter), such as --halt-on-4xx, or --halt-on-4xx=false:"`
	rotateFlags

	ID         int32 `arg:"" help:"The rule's id."`
	ConfirmURL bool  `name:"confirm-url" help:"The rule's secrets are for the URL that it has now."`
	ShowURLs   bool  `name:"show-urls" help:"With --confirm-url: say the whole URL; it often holds secrets."`
	Enable     bool  `xor:"enabled" help:"Switch the rule on."`
	Disable    bool  `xor:"enabled" help:"Switch the rule off: its waiting deliveries wait on, and new events make none."`
	Resume     bool  `help:"End the rule's pause: its waiting deliveries are sent, and new ones at once."`
	ReplayDead bool  `help:"With --resume: then send the rule's dead deliveries again under the same webhook-id. Says how many."`
	Yes        bool  `help:"With --replay-dead: do it. Without, it only says how many there are."`

	steps []change // of the options
}

// check refuses a call that would change nothing, and flags that mean nothing without another.
func (c *setCommand) check(s *session) (err error) {
	switch {
	case c.filters() && (c.Resume || c.ReplayDead || c.Yes):
		return usagef("--resume and --replay-dead are for webhooks: a webfilter is never paused, and nothing of it waits")
	case c.ReplayDead && !c.Resume:
		return usagef("--replay-dead comes with --resume; to replay alone, run deliveries replay --state dead --rule %d", c.ID)
	case c.Yes && !c.ReplayDead:
		return usagef("--yes comes with --replay-dead; what else rules set does needs no confirmation")
	case c.ShowURLs && !c.ConfirmURL:
		return usagef("--show-urls comes with --confirm-url")
	}
	if err := errors.Join(c.optionFlags.check(c.kindFlag), c.filterFlags.check(c.kindFlag)); err != nil {
		return err
	}
	in := &inputs{stdin: s.Stdin, sealing: c.sealing()}
	if c.steps, err = c.changes(in); err != nil {
		return err
	}
	if err := c.rotateFlags.check(in, &c.signingFlags); err != nil {
		return err
	}
	if len(c.steps) == 0 && !c.RotateSecret.given && !c.ConfirmURL && !c.Enable && !c.Disable && !c.Resume && c.given() == "" {
		return usagef("write what to change: --enable, --disable, --resume, --confirm-url, --rotate-secret, or an option of the rule; " +
			"see rules set --help")
	}
	return nil
}

// Run changes the rule.
func (c *setCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, c.groups()...); err != nil {
		return err
	}
	if err := c.check(s); err != nil {
		return err
	}
	return s.withStore(&c.Database, func(st *store.Store) error {
		rules, err := readRules(ctx, st, &c.ruleSettings)
		if err != nil {
			return err
		}
		e, err := rules.entry(c.key(c.ID))
		if err != nil {
			return err
		}
		for _, step := range []struct {
			asked bool
			do    func(context.Context, *session, *store.Store, *rule.Entry) error
		}{
			{len(c.steps) > 0 || c.RotateSecret.given || c.ConfirmURL, c.setOptions},
			{c.given() != "", c.setFlags},
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
			if rules, err = readRules(ctx, st, &c.ruleSettings); err != nil {
				return err
			}
			if e, err = rules.entry(c.key(c.ID)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *setCommand) setEnabled(ctx context.Context, s *session, st *store.Store, e *rule.Entry) error {
	switched, err := st.SetEnabled(ctx, e.Key, c.Enable)
	if err == nil && switched.Changed && c.Enable { // what it failed before does not count: nothing was tried meanwhile
		err = st.ClearFailing(ctx, e.Key.Lane())
	}
	if err != nil {
		return err
	}
	state, already, but := "disabled", "", ""
	if c.Enable {
		state, but = "enabled", c.butOf(e, &switched)
	}
	if !switched.Changed {
		already = " already"
	}
	_, err = fmt.Fprintf(s.Stdout, "%s is %s%s%s\n", e.Key.Label(), state, already, but)
	return err
}

// butOf says what keeps a rule that is switched on from being sent by the dispatcher, "" for nothing.
func (c *setCommand) butOf(e *rule.Entry, switched *store.Switched) string {
	switch {
	case (c.adopted() || inRequest(e)) && !switched.Adopted:
		does := "sends its events"
		if c.filters() {
			does = "calls it"
		}
		return fmt.Sprintf(" for the plugin inside the LMS, which %s: it is not adopted; see %s", does, command("adopt", e.Key, ""))
	case e.Rule == nil:
		return ", but faulty, so nothing is sent: " + e.Fault
	case e.Hold != "":
		return ", but nothing is sent to it: " + e.Hold
	case !e.PausedAt().IsZero() && !c.Resume && !c.filters():
		return fmt.Sprintf(", but paused since %s, so nothing is sent: %s, run %s",
			moment(e.PausedAt()), cure(e), command("set", e.Key, " --resume"))
	}
	return ""
}

func (c *setCommand) resume(ctx context.Context, s *session, st *store.Store, e *rule.Entry) error {
	resumed, err := st.ResumeRule(ctx, e.Key)
	if err != nil {
		return err
	}
	state, but := "is not paused", ""
	if resumed {
		state = "is resumed"
	}
	switch {
	case e.Hold != "":
		but = ", but nothing is sent to it: " + e.Hold
	case !resumed:
	case e.Rule == nil:
		but = ", but faulty, so nothing is sent: " + e.Fault
	case e.Status() == rule.Disabled:
		but = fmt.Sprintf(", but disabled, so nothing is sent: run rules set %d --enable", c.ID)
	case e.Status() == rule.Foreign:
		but = fmt.Sprintf(", but not adopted, so nothing is sent: run rules adopt %d", c.ID)
	}
	_, err = fmt.Fprintf(s.Stdout, "rule %d %s%s\n", c.ID, state, but)
	return err
}

// replayDead does what deliveries replay does with the rule's dead deliveries.
func (c *setCommand) replayDead(ctx context.Context, s *session, st *store.Store, _ *rule.Entry) error {
	a, err := newAdmin(admin.Options{Store: st})
	if err != nil {
		return err
	}
	dead := admin.Selection{States: []delivery.State{delivery.Dead}, Rule: &c.ID}
	return s.replay(ctx, a, &admin.Replay{Selection: dead, Apply: c.Yes}, false)
}
