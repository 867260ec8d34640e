package admin

import (
	"context"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// RuleChoice names rules of one table, or all that an operation is for.
type RuleChoice struct {
	Table rule.Table
	IDs   []int32
	All   bool
}

// Refusal is a rule that stays with the plugin: nobody would send its events any more. One of Fault, Hold and PausedAt says why.
type Refusal struct {
	Key      rule.Key
	Fault    string
	Hold     string
	PausedAt time.Time
	Cure     string // what has to be done before the pause is ended
}

// SwitchedView says which rules were adopted or released, and how they stand.
type SwitchedView struct {
	Refused  []Refusal
	Switched []store.Switched
	OnBus    bool // at least one of the rules is not called in requests
	None     bool // no rule was chosen
}

// Adopt hands rules to the dispatcher. It waits until running daemons know a row that was made or changed a moment ago, and says so to
// waiting. The view is there beside an error as well.
func (a *Admin) Adopt(ctx context.Context, c *RuleChoice, waiting func(d time.Duration, youngest rule.Key)) (*SwitchedView, error) {
	chosen, err := a.choose(ctx, c, func(e *rule.Entry) bool { return !e.Option.Adopted() && !e.AsksUs() })
	if err != nil {
		return &SwitchedView{}, err
	}
	view := &SwitchedView{None: len(chosen) == 0}
	var keys []rule.Key
	seen := make(map[rule.Key]rule.Row)
	var good []*rule.Entry
	for _, e := range chosen {
		if why := unfit(e); why != nil {
			view.Refused = append(view.Refused, *why)
			continue
		}
		keys, good, seen[e.Key] = append(keys, e.Key), append(good, e), *e.Row
		view.OnBus = view.OnBus || !inRequest(e)
	}
	if err := a.settle(ctx, good, waiting); err != nil {
		return view, err
	}
	if !view.None {
		view.Switched, err = a.o.Store.Adopt(ctx, keys, seen)
	}
	return view, err
}

// Release gives rules back to the plugin. The view is there beside an error as well.
func (a *Admin) Release(ctx context.Context, c *RuleChoice) (*SwitchedView, error) {
	chosen, err := a.choose(ctx, c, func(e *rule.Entry) bool { return e.Option.Adopted() })
	if err != nil {
		return &SwitchedView{}, err
	}
	view := &SwitchedView{None: len(chosen) == 0}
	var keys []rule.Key
	for _, e := range chosen {
		keys = append(keys, e.Key)
	}
	if !view.None {
		view.Switched, err = a.o.Store.Release(ctx, keys)
	}
	return view, err
}

// choose returns the rules that were named, or all that are meant.
func (a *Admin) choose(ctx context.Context, c *RuleChoice, meant func(*rule.Entry) bool) (chosen []*rule.Entry, err error) {
	switch {
	case c.All && len(c.IDs) > 0:
		return nil, &Problem{Reason: "write either ids or `all`"}
	case !c.All && len(c.IDs) == 0:
		return nil, &Problem{Reason: "write the ids of the rules, or `all`"}
	}
	rules, err := a.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range c.IDs {
		e, err := entryOf(rules, rule.Key{Table: c.Table, ID: id})
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, e)
	}
	list := rules.Entries(c.Table)
	for i := range list {
		if c.All && meant(&list[i]) {
			chosen = append(chosen, &list[i])
		}
	}
	return chosen, nil
}

// unfit says why a rule must stay with the plugin, nil where the dispatcher can send its events. A rule that the dispatcher has already
// is fit: there is nothing to take from the plugin.
func unfit(e *rule.Entry) *Refusal {
	r := &Refusal{Key: e.Key}
	switch {
	case e.Option.Adopted() && !e.Row.Enabled:
		return nil
	case e.Rule == nil:
		r.Fault = e.Fault
	case e.Hold != "":
		r.Hold = e.Hold
	case e.Key.Table == rule.Webhooks && !e.PausedAt().IsZero():
		r.PausedAt, r.Cure = e.PausedAt(), cure(e)
	default:
		return nil
	}
	return r
}

// cure says, within a sentence, what has to be done before a pause is worth its end.
func cure(e *rule.Entry) string {
	if e.Option != nil && e.Option.PauseReason == delivery.ReasonExpression {
		return "once its filter or transform is mended"
	}
	return "once its endpoint is well"
}

// inRequest reports whether the rule is a webfilter that is called in a request of the LMS; a faulty row is not.
func inRequest(e *rule.Entry) bool { return e.Rule != nil && e.Rule.InRequest() }

// leastSettleTime is for daemons whose refresh is another than the one that is set here.
const leastSettleTime = 10 * time.Second

// settleTime is the longest that a running daemon takes to read a row that was made or changed, with room for a reading that failed. A
// daemon that does not know a row yet cannot tell that its adoption may be under way.
func settleTime(refresh time.Duration) time.Duration { return max(leastSettleTime, 2*refresh) }

// settle waits until rows have been as they are for some time, so that running daemons have read them.
func (a *Admin) settle(ctx context.Context, chosen []*rule.Entry, waiting func(time.Duration, rule.Key)) error {
	now, err := a.o.Store.Now(ctx)
	if err != nil {
		return err
	}
	var longest time.Duration
	var youngest rule.Key
	for _, e := range chosen {
		if wait := settleTime(a.o.RulesRefresh) - age(e, now); wait > longest {
			longest, youngest = wait, e.Key
		}
	}
	if longest <= 0 {
		return nil
	}
	if waiting != nil {
		waiting(longest, youngest)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(longest):
		return nil
	}
}

// age returns how long a row has been as it is, our own switches left out: around these no event is lost. Clocks differ: 0 at least.
func age(e *rule.Entry, now time.Time) time.Duration {
	since := e.Row.Created
	o := e.Option
	ours := o != nil && (e.Row.Modified.Equal(o.AdoptedAt) || e.Row.Modified.Equal(o.ReleasedAt))
	if !ours && e.Row.Modified.After(since) {
		since = e.Row.Modified
	}
	return max(now.Sub(since), 0)
}
