package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
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
}

// rotateFlags replace a secret that receivers know by another, with a time in which both are good.
type rotateFlags struct {
	RotateSecret text `placeholder:"SECRET" help:"New secret that signs from now on; the ones before sign beside it for a while."`
	KeepPrevious text `placeholder:"D" help:"With --rotate-secret: for how long, 24h by default; 0 for not at all."`
}

// rotation returns what the flags ask for, nil for nothing.
func (f *rotateFlags) rotation(in *inputs) (*admin.Rotation, error) {
	if !f.RotateSecret.given {
		if f.KeepPrevious.given {
			return nil, usagef("--keep-previous comes with --rotate-secret")
		}
		return nil, nil
	}
	secret, err := in.secret("rotate-secret", f.RotateSecret.value)
	if err != nil {
		return nil, err
	}
	keep := 24 * time.Hour
	if f.KeepPrevious.given {
		keep, err = config.ParseDuration(f.KeepPrevious.value)
		if f.KeepPrevious.value == "0" {
			keep, err = 0, nil
		}
		if err != nil || keep < 0 {
			return nil, usagef("--keep-previous: %q is no time to keep secrets for: write one such as 24h or 7d, or 0", f.KeepPrevious.value)
		}
	}
	return &admin.Rotation{Secret: secret, Keep: keep}, nil
}

// check refuses flags that mean nothing without another.
func (c *setCommand) check() error {
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
	return nil
}

// Run changes the rule: one thing after the other, and says of each what came of it.
func (c *setCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, c.groups()...); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	webfilter := c.filterFlags.change()
	if err := webfilter.Check(c.table()); err != nil {
		return err
	}
	in := &inputs{stdin: s.Stdin}
	change := admin.SecretChange{ConfirmURL: c.ConfirmURL, ShowURL: c.ShowURLs}
	var err error
	if change.Options, err = c.optionFlags.change(in); err != nil {
		return err
	}
	if change.Rotate, err = c.rotation(in); err != nil {
		return err
	}
	if err := change.Check(c.table()); err != nil {
		return err
	}
	options := !change.Options.Empty() || change.Rotate != nil
	if !options && !c.ConfirmURL && !c.Enable && !c.Disable && !c.Resume && webfilter.Given() == "" {
		return usagef("write what to change: --enable, --disable, --resume, --confirm-url, --rotate-secret, or an option of the rule; " +
			"see rules set --help")
	}
	key := c.key(c.ID)
	return s.withRules(&c.ruleSettings, func(a *admin.Admin) error {
		if _, err := a.ShowRule(ctx, key, false); err != nil { // it must be there, whatever is to change
			return err
		}
		for _, step := range []struct {
			asked bool
			do    func() (said []string, err error)
		}{
			{options || c.ConfirmURL, func() ([]string, error) {
				view, err := a.ChangeOptions(ctx, key, &change)
				return changedLines(view, options), err
			}},
			{webfilter.Given() != "", func() ([]string, error) {
				changed, err := a.ChangeWebfilter(ctx, c.ID, &webfilter)
				if changed {
					return []string{"has other flags now"}, err
				}
				return []string{"has these flags already"}, err
			}},
			{c.Enable || c.Disable, func() ([]string, error) {
				view, err := a.SetEnabled(ctx, key, c.Enable)
				return c.enabledLine(key, view), err
			}},
			{c.Resume, func() ([]string, error) {
				view, err := a.Resume(ctx, key)
				return resumedLine(key, view), err
			}},
			{c.ReplayDead, func() ([]string, error) {
				dead := admin.Selection{States: []delivery.State{delivery.Dead}, Rule: &c.ID}
				return nil, s.replay(ctx, a, &admin.Replay{Selection: dead, Apply: c.Yes}, false)
			}},
		} {
			if !step.asked {
				continue
			}
			said, err := step.do()
			if err != nil {
				return err
			}
			for _, line := range said {
				if _, err := fmt.Fprintf(s.Stdout, "%s %s\n", key.Label(), line); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// changedLines says what came of a change of options.
func changedLines(v *admin.ChangedView, options bool) (said []string) {
	if v == nil {
		return nil
	}
	if options && v.Changed {
		said = append(said, "is changed")
	} else if options {
		said = append(said, "is as it was: it has these options already")
	}
	switch confirmed := v.Confirmed; {
	case confirmed == nil:
	case !confirmed.Secrets:
		said = append(said, "has no secrets: there is nothing to confirm")
	case confirmed.URL == "":
		said = append(said, "has the URL that its secrets are for: there is nothing to confirm")
	default:
		said = append(said, "sends its secrets to "+admin.Printable(confirmed.URL)+" from now on")
	}
	if n := len(v.Kept); n > 0 {
		headers := "header"
		if n > 1 {
			headers = "headers"
		}
		said = append(said, fmt.Sprintf("keeps its sealed %s %s: take one away with --header '%s:'",
			headers, strings.Join(v.Kept, ", "), v.Kept[0]))
	}
	if v.Rotated != nil {
		said = append(said, rotated(v.Rotated))
	}
	return said
}

// rotated says what receivers must know of a rotation.
func rotated(v *admin.RotatedView) string {
	if v.Scheme != "standard" {
		return fmt.Sprintf("is signed with the new secret alone from now on: %s has room for one signature, so the receiver must know the new "+
			"secret already, and keep the old one until what is under way has arrived", v.Scheme)
	}
	said := "is signed with the new secret, and no longer with the one before: the receiver must know the new one already"
	switch {
	case !v.Until.IsZero():
		said = fmt.Sprintf("is signed with the new secret, and with the one before until %s: give the receiver the new one by then",
			moment(v.Until))
	case v.Earlier == 0:
		said = "is signed with the new secret alone from now on: the receiver must know it already"
	}
	if v.Earlier == 0 {
		return said
	}
	return fmt.Sprintf("%s; besides with %s until %s at the latest", said,
		counted(v.Earlier, "secret of an earlier rotation", "secrets of earlier rotations"), moment(v.EarlierUntil))
}

func (c *setCommand) enabledLine(key rule.Key, v *admin.StateView) []string {
	if v == nil {
		return nil
	}
	state, already, but := "disabled", "", ""
	if c.Enable {
		state, but = "enabled", c.butOf(key, v)
	}
	if !v.Changed {
		already = " already"
	}
	return []string{"is " + state + already + but}
}

// butOf says what keeps a rule that is switched on from being sent by the dispatcher, "" for nothing.
func (c *setCommand) butOf(key rule.Key, v *admin.StateView) string {
	switch {
	case v.Foreign:
		does := "sends its events"
		if c.filters() {
			does = "calls it"
		}
		return fmt.Sprintf(" for the plugin inside the LMS, which %s: it is not adopted; see %s", does, command("adopt", key, ""))
	case v.Fault != "":
		return ", but faulty, so nothing is sent: " + v.Fault
	case v.Hold != "":
		return ", but nothing is sent to it: " + v.Hold
	case !v.PausedAt.IsZero() && !c.Resume && !c.filters():
		return fmt.Sprintf(", but paused since %s, so nothing is sent: %s, run %s", moment(v.PausedAt), v.Cure, command("set", key, " --resume"))
	}
	return ""
}

func resumedLine(key rule.Key, v *admin.StateView) []string {
	if v == nil {
		return nil
	}
	state, but := "is not paused", ""
	if v.Changed {
		state = "is resumed"
	}
	switch {
	case v.Hold != "":
		but = ", but nothing is sent to it: " + v.Hold
	case !v.Changed:
	case v.Fault != "":
		but = ", but faulty, so nothing is sent: " + v.Fault
	case v.Status == rule.Disabled:
		but = fmt.Sprintf(", but disabled, so nothing is sent: run rules set %d --enable", key.ID)
	case v.Status == rule.Foreign:
		but = fmt.Sprintf(", but not adopted, so nothing is sent: run rules adopt %d", key.ID)
	}
	return []string{state + but}
}
