package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

type addCommand struct {
	ruleSettings
	kindFlag
	optionFlags
	filterFlags `group:"Flags of a webfilter row (--kind webfilter), such as --halt-on-4xx, or --halt-on-4xx=false:"`
	jsonFlag

	Event    string `placeholder:"EVENT" help:"Signal constant, such as COURSE_ENROLLMENT_CREATED; for a webfilter also a filter's name."`
	URL      string `required:"" placeholder:"URL" name:"url" help:"Where to send the events: http:// or https://."`
	Form     bool   `help:"Send form fields instead of JSON."`
	Disabled bool   `help:"Add the rule switched off."`
}

// filterFlags are the columns that only webfilter rows have, as admin.WebfilterChange has them.
// Switches take =false.
type filterFlags struct {
	Description                *string `placeholder:"TEXT" help:"What the row is for."`
	DisableFiltering           *bool   `help:"Leave out the data of answers."`
	DisableHalt                *bool   `help:"Leave out the exceptions of answers."`
	HaltOn4xx                  *bool   `name:"halt-on-4xx" help:"Stop what was about to happen on an answer with a status 4xx."`
	RedirectOn4xx              *string `name:"redirect-on-4xx" placeholder:"URL" help:"Where the learner is sent then."`
	HaltOn5xx                  *bool   `name:"halt-on-5xx" help:"The same on 5xx."`
	RedirectOn5xx              *string `name:"redirect-on-5xx" placeholder:"URL" help:"Where the learner is sent then."`
	HaltOnRequestException     *bool   `help:"The same where no answer comes."`
	RedirectOnRequestException *string `placeholder:"URL" help:"Where the learner is sent then."`
}

// Run adds the rule.
func (c *addCommand) Run(ctx context.Context, s *session) error {
	n := &admin.NewRule{
		Table: c.table(), Event: c.Event, URL: c.URL, Form: c.Form, Disabled: c.Disabled, Webfilter: admin.WebfilterChange(c.filterFlags),
	}
	err := n.Webfilter.Check(n.Table)
	if err != nil {
		return err
	}
	if n.Options, err = c.change(&inputs{stdin: s.Stdin}); err != nil {
		return err
	}
	return s.withRules(ctx, &c.ruleSettings, func(a *admin.Admin) error {
		view, err := a.AddRule(ctx, n)
		if err != nil {
			return err
		}
		if view.Unknown != "" {
			s.note(fmt.Sprintf("the plugin has no filter of the name %s, so it never asks for it%s",
				cell(view.Unknown), cmp.Or(view.Hint, "; events list has its own")))
		}
		if c.JSON {
			return s.printJSON(view)
		}
		_, err = fmt.Fprintln(s.Stdout, view.ID)
		return err
	})
}

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
	RotateSecret *string `placeholder:"SECRET" help:"New secret that signs from now on; the ones before sign beside it for a while."`
	KeepPrevious *string `placeholder:"D" help:"With --rotate-secret: for how long, 24h by default; 0 for not at all."`
}

// rotation returns what the flags ask for, nil for nothing.
func (f *rotateFlags) rotation(in *inputs) (*admin.Rotation, error) {
	switch {
	case f.RotateSecret == nil && f.KeepPrevious != nil:
		return nil, usagef("--keep-previous comes with --rotate-secret")
	case f.RotateSecret == nil:
		return nil, nil
	}
	keep := 24 * time.Hour
	if f.KeepPrevious != nil && *f.KeepPrevious == "0" {
		keep = 0
	} else if f.KeepPrevious != nil {
		var err error
		if keep, err = config.ParseDuration(*f.KeepPrevious); err != nil || keep < 0 {
			return nil, usagef("--keep-previous: %q is not a time to keep secrets for: write one such as 24h or 7d, or 0", *f.KeepPrevious)
		}
	}
	return &admin.Rotation{Secret: *in.secret("rotate-secret", f.RotateSecret), Keep: keep}, in.err
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
	webfilter := admin.WebfilterChange(c.filterFlags)
	err := cmp.Or(c.check(), webfilter.Check(c.table()))
	if err != nil {
		return err
	}
	in := &inputs{stdin: s.Stdin}
	change := admin.SecretChange{ConfirmURL: c.ConfirmURL, ShowURL: c.ShowURLs}
	if change.Options, err = c.change(in); err != nil {
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
	return s.withRules(ctx, &c.ruleSettings, func(a *admin.Admin) error {
		if _, err := a.ShowRule(ctx, key, false); err != nil { // it must be there, whatever is to change
			return err
		}
		var unsaid error
		say := func(lines ...string) {
			for _, line := range lines {
				_, err := fmt.Fprintf(s.Stdout, "%s %s\n", key.Label(), line)
				unsaid = cmp.Or(unsaid, err)
			}
		}
		if options || c.ConfirmURL {
			view, err := a.ChangeOptions(ctx, key, &change)
			if err != nil {
				return err
			}
			say(changedLines(view, options)...)
		}
		if webfilter.Given() != "" {
			changed, err := a.ChangeWebfilter(ctx, c.ID, &webfilter)
			switch {
			case err != nil:
				return err
			case changed:
				say("has other flags now")
			default:
				say("has these flags already")
			}
		}
		if c.Enable || c.Disable {
			view, err := a.SetEnabled(ctx, key, c.Enable)
			if err != nil {
				return err
			}
			say(c.enabledLine(key, view))
		}
		if c.Resume {
			view, err := a.Resume(ctx, key)
			if err != nil {
				return err
			}
			say(resumedLine(key, view))
		}
		if c.ReplayDead {
			dead := admin.Selection{States: []delivery.State{delivery.Dead}, Rule: &c.ID}
			return errors.Join(unsaid, s.replay(ctx, a, &admin.Replay{Selection: dead, Apply: c.Yes}, false))
		}
		return unsaid
	})
}

// changedLines says what came of a change of options.
func changedLines(v *admin.ChangedView, options bool) (said []string) {
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
	if len(v.Kept) > 0 {
		headers := "header"
		if len(v.Kept) > 1 {
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

func (c *setCommand) enabledLine(key rule.Key, v *admin.StateView) string {
	state, already, but := "disabled", "", ""
	if c.Enable {
		state, but = "enabled", c.butOf(key, v)
	}
	if !v.Changed {
		already = " already"
	}
	return "is " + state + already + but
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

func resumedLine(key rule.Key, v *admin.StateView) string {
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
	return state + but
}
