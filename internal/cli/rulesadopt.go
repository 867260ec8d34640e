package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// switchFlags choose the rules that are to be adopted or released.
type switchFlags struct {
	ruleSettings
	kindFlag

	IDs []int32 `arg:"" optional:"" name:"id" help:"The rules' ids."`
}

func (c *switchFlags) check(all bool) error {
	switch {
	case all && len(c.IDs) > 0:
		return usagef("write either ids or --all")
	case !all && len(c.IDs) == 0:
		return usagef("write the ids of the rules, or --all")
	}
	return nil
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
	if err := errors.Join(c.check(c.All), s.settings(ctx, c.groups()...)); err != nil {
		return err
	}
	return s.withStore(&c.Database, func(st *store.Store) error {
		chosen, err := c.choose(ctx, st, func(e *rule.Entry) bool { return c.All && !e.Option.Adopted() && !e.AsksUs() })
		if err != nil {
			return err
		}
		good, failed := s.usableOf(chosen)
		if err := s.settle(ctx, st, good, c.settleTime()); err != nil {
			return err
		}
		seen := make(map[rule.Key]rule.Row, len(good))
		for _, e := range good {
			seen[e.Key] = *e.Row
		}
		err = s.switchOver(ctx, func(ctx context.Context, lanes []rule.Key) ([]store.Switched, error) {
			return st.Adopt(ctx, lanes, seen)
		}, good, failed)
		if !c.adopted() && slices.ContainsFunc(good, func(e *rule.Entry) bool { return !inRequest(e) }) {
			fmt.Fprintln(s.Stderr, "webhook-dispatcher: note: daemons make use of it only with WEBHOOK_DISPATCHER_RULES_SOURCE=adopted; with "+
				"enabled, as it is set here, they send the adopted rows and all enabled ones, as before")
		}
		return err
	})
}

// Run releases the rules.
func (c *releaseCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(c.All), s.settings(ctx, c.groups()...)); err != nil {
		return err
	}
	return s.withStore(&c.Database, func(st *store.Store) error {
		chosen, err := c.choose(ctx, st, func(e *rule.Entry) bool { return c.All && e.Option.Adopted() })
		if err != nil {
			return err
		}
		return s.switchOver(ctx, st.Release, chosen, 0)
	})
}

// choose returns the rules that were named, or all that are meant.
func (c *switchFlags) choose(ctx context.Context, st *store.Store, meant func(*rule.Entry) bool) (chosen []*rule.Entry, err error) {
	rules, err := readRules(ctx, st, &c.ruleSettings)
	if err != nil {
		return nil, err
	}
	for _, id := range c.IDs {
		e, err := rules.entry(c.key(id))
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, e)
	}
	for i := range rules.Entries(c.table()) {
		if e := &rules.Entries(c.table())[i]; meant(e) {
			chosen = append(chosen, e)
		}
	}
	return chosen, nil
}

// usableOf leaves out the rules that the dispatcher could not send: nobody would send their events any more.
func (s *session) usableOf(chosen []*rule.Entry) (good []*rule.Entry, failed int) {
	for _, e := range chosen {
		why := unfit(e)
		if why == "" {
			good = append(good, e)
			continue
		}
		failed++
		fmt.Fprintf(s.Stdout, "%s is not adopted, because %s\n", e.Key.Label(), why)
	}
	return good, failed
}

// unfit says why a rule must stay with the plugin, "" where the dispatcher can send its events. A rule that the dispatcher has already is
// none of these: there is nothing to take from the plugin.
func unfit(e *rule.Entry) string {
	switch {
	case e.Option.Adopted() && !e.Row.Enabled:
		return ""
	case e.Rule == nil:
		return "it is faulty: " + e.Fault
	case e.Hold != "":
		return "nothing could be sent to it: " + e.Hold
	case e.Key.Table == rule.Webhooks && !e.PausedAt().IsZero():
		return fmt.Sprintf("it is paused since %s: %s, run %s first", moment(e.PausedAt()), cure(e), command("set", e.Key, " --resume"))
	}
	return ""
}

// leastSettleTime is for daemons whose refresh is another than the one that is set here.
const leastSettleTime = 10 * time.Second

// settleTime is the longest that a running daemon takes to read a row that was made or changed, with room for a reading that failed. A
// daemon that does not know a row yet cannot tell that its adoption may be under way.
func (r *ruleSettings) settleTime() time.Duration { return max(leastSettleTime, 2*r.RulesRefresh) }

// settle waits until rows have been as they are for some time, so that running daemons have read them.
func (s *session) settle(ctx context.Context, st *store.Store, chosen []*rule.Entry, settleTime time.Duration) error {
	now, err := st.Now(ctx)
	if err != nil {
		return err
	}
	var longest time.Duration
	var youngest string
	for _, e := range chosen {
		if wait := settleTime - age(e, now); wait > longest {
			longest, youngest = wait, e.Key.Label()
		}
	}
	if longest <= 0 {
		return nil
	}
	fmt.Fprintf(s.Stderr, "webhook-dispatcher: waiting %s: %s was made or changed a moment ago, "+
		"and running daemons may not have read it yet\n", longest.Round(time.Second), youngest)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(longest):
		return nil
	}
}

// age returns for how long a row has been as it is, switches of ours left out: around these no event is lost. It is not below 0: clocks
// differ.
func age(e *rule.Entry, now time.Time) time.Duration {
	since := e.Row.Created
	o := e.Option
	ours := o != nil && (e.Row.Modified.Equal(o.AdoptedAt) || e.Row.Modified.Equal(o.ReleasedAt))
	if !ours && e.Row.Modified.After(since) {
		since = e.Row.Modified
	}
	return max(now.Sub(since), 0)
}

// switchOver switches the rules and prints a line for each. failed is how many were left out before.
func (s *session) switchOver(
	ctx context.Context, do func(context.Context, []rule.Key) ([]store.Switched, error), chosen []*rule.Entry, failed int,
) error {
	if len(chosen) == 0 && failed == 0 {
		_, err := fmt.Fprintln(s.Stdout, "there is no such rule: nothing was done")
		return err
	}
	lanes := make([]rule.Key, len(chosen))
	for i, e := range chosen {
		lanes[i] = e.Key
	}
	done, err := do(ctx, lanes)
	for i := range done {
		fmt.Fprintln(s.Stdout, line(&done[i]))
	}
	if err == nil && failed > 0 {
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
