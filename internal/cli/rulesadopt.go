package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// switchFlags choose the rules that are to be adopted or released.
type switchFlags struct {
	ruleSettings
	kindFlag

	IDs []int32 `arg:"" optional:"" name:"id" help:"The rules' ids."`
}

type adoptCommand struct {
	switchFlags

	All bool `help:"All rules that are not adopted yet, disabled ones included; not the rows by which the plugin asks the dispatcher."`
}

type releaseCommand struct {
	switchFlags

	All bool `help:"All rules that are adopted, disabled ones included."`
}

// Run adopts the rules.
func (c *adoptCommand) Run(ctx context.Context, s *session) error {
	waiting := func(d time.Duration, youngest rule.Key) {
		fmt.Fprintf(s.Stderr, "webhook-dispatcher: waiting %s: %s was made or changed a moment ago, "+
			"and running daemons may not have read it yet\n", d.Round(time.Second), youngest.Label())
	}
	return s.withRules(ctx, &c.ruleSettings, func(a *admin.Admin) error {
		view, err := a.Adopt(ctx, &admin.RuleChoice{Table: c.table(), IDs: c.IDs, All: c.All}, waiting)
		for i := range view.Refused {
			refused := &view.Refused[i]
			fmt.Fprintf(s.Stdout, "%s is not adopted, because %s\n", refused.Key.Label(), whyRefused(refused))
		}
		err = s.printSwitched(view, err)
		if view.OnBus && c.RulesSource != "adopted" {
			s.note("daemons make use of it only with WEBHOOK_DISPATCHER_RULES_SOURCE=adopted; with enabled, as it is set here, they send " +
				"the adopted rows and all enabled ones, as before")
		}
		return err
	})
}

// Run releases the rules.
func (c *releaseCommand) Run(ctx context.Context, s *session) error {
	return s.withRules(ctx, &c.ruleSettings, func(a *admin.Admin) error {
		view, err := a.Release(ctx, &admin.RuleChoice{Table: c.table(), IDs: c.IDs, All: c.All})
		return s.printSwitched(view, err)
	})
}

// whyRefused says why a rule stays with the plugin.
func whyRefused(r *admin.Refusal) string {
	switch {
	case r.Fault != "":
		return "it is faulty: " + r.Fault
	case r.Hold != "":
		return "nothing could be sent to it: " + r.Hold
	}
	return fmt.Sprintf("it is paused since %s: %s, run %s first", moment(r.PausedAt), r.Cure, command("set", r.Key, " --resume"))
}

// printSwitched prints a line for each rule, and returns the error of the command.
func (s *session) printSwitched(view *admin.SwitchedView, err error) error {
	if view.None && err == nil {
		_, err := fmt.Fprintln(s.Stdout, "there is no such rule: nothing was done")
		return err
	}
	for i := range view.Switched {
		fmt.Fprintln(s.Stdout, line(&view.Switched[i]))
	}
	if failed := len(view.Refused); err == nil && failed > 0 {
		err = fmt.Errorf("%s not adopted", counted(failed, "rule was", "rules were"))
	}
	return err
}

// line says how a rule stands after a switch.
func line(done *store.Switched) string {
	if !done.Changed {
		return fmt.Sprintf("%s: nothing was changed: %s", done.Key.Label(), done.Why)
	}
	whose, does, state := "released: the plugin", "sends its events", "enabled"
	if done.Adopted {
		whose = "adopted: the dispatcher"
	}
	if done.Key.Table == rule.Webfilters {
		does = "calls it"
	}
	if !done.Enabled {
		state = "disabled"
	}
	return fmt.Sprintf("%s is %s %s, %s", done.Key.Label(), whose, does, state)
}
