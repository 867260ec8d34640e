package cli

import (
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// kindFlag chooses the plugin's table.
type kindFlag struct {
	Kind string `enum:"webhook,webfilter" default:"webhook" help:"Kind of rule: webhook or webfilter."`
}

// webfilter is what people call rows of delivery.KindEvent.
const webfilter = "webfilter"

func (k kindFlag) kind() delivery.Kind {
	if k.Kind == webfilter {
		return delivery.KindEvent
	}
	return delivery.KindWebhook
}

func (k kindFlag) filters() bool { return k.kind() == delivery.KindEvent }

func (k kindFlag) lane(id int32) delivery.Lane { return delivery.Lane{Kind: k.kind(), RuleID: id} }

// kindName returns what the flag calls a kind.
func kindName(kind delivery.Kind) string {
	if kind == delivery.KindEvent {
		return webfilter
	}
	return kind.String()
}

// label names a rule within a sentence.
func label(l delivery.Lane) string {
	if l.Kind == delivery.KindEvent {
		return fmt.Sprintf("webfilter %d", l.RuleID)
	}
	return fmt.Sprintf("rule %d", l.RuleID)
}

// command returns a command for a rule, such as "rules set 7 --resume".
func command(name string, l delivery.Lane, flags string) string {
	return fmt.Sprintf("rules %s %d", name, l.RuleID) + kindArgument(l) + flags
}

// kindArgument returns the flag that a command needs for a rule of this kind, with a space before it, or an empty text.
func kindArgument(l delivery.Lane) string {
	if l.Kind == delivery.KindEvent {
		return " --kind webfilter"
	}
	return ""
}

// ruleEntry is a row of one of the plugin's tables with what became of it.
type ruleEntry struct {
	lane   delivery.Lane
	row    *rule.Row
	rule   *rule.Rule // nil where the row is faulty
	fault  string     // "" for a good row
	hold   string     // why nothing may be sent though nobody has paused the rule, or ""
	status rule.Status
	option *rule.Option      // nil where there is none
	filter *rule.FilterEntry // nil for a webhook
}

func webhookEntry(e *rule.Entry) *ruleEntry {
	return &ruleEntry{
		lane: delivery.Lane{Kind: e.Kind, RuleID: e.Row.ID}, row: e.Row, rule: e.Rule, fault: e.Fault, hold: e.Hold, status: e.Status(),
		option: e.Option,
	}
}

func filterEntry(f *rule.FilterEntry) *ruleEntry {
	e := &ruleEntry{
		lane: delivery.Lane{Kind: delivery.KindEvent, RuleID: f.Row.ID}, row: &f.Row.Row, fault: f.Fault, status: f.Status(),
		option: f.Option, filter: f,
	}
	if f.Filter != nil {
		e.rule, e.hold = f.Filter.Rule, f.Filter.Hold
	}
	return e
}

// asksUs tells whether the rule is the row by which the plugin asks the dispatcher: that one is as it should be, and stays the plugin's.
func (e *ruleEntry) asksUs() bool {
	return e.filter != nil && e.filter.Filter != nil && e.status == rule.Foreign && e.filter.Filter.LeadsBack()
}

// shownHold is the hold, where it is worth a word.
func (e *ruleEntry) shownHold() string {
	if e.asksUs() {
		return ""
	}
	return e.hold
}

// pausedAt returns since when the rule is paused, zero where it is not.
func (e *ruleEntry) pausedAt() time.Time {
	if e.option == nil {
		return time.Time{}
	}
	return e.option.PausedAt
}

// cure says, within a sentence, what has to be done before a pause is worth its end.
func (e *ruleEntry) cure() string {
	if e.option != nil && e.option.PauseReason == delivery.ReasonExpression {
		return "once its filter or transform is mended"
	}
	return "once its endpoint is well"
}

// inRequest tells whether the rule is a webfilter that is called in a request of the LMS, and not before the webhooks of an event.
func (e *ruleEntry) inRequest() bool { return e.filter != nil && e.rule != nil && !e.filter.OnBus() }

// inRequest tells the same of a rule that is tried out.
func inRequest(r *rule.Rule) bool {
	e := rule.FilterEntry{Filter: &rule.Filter{Rule: r}}
	return r.Kind == delivery.KindEvent && !e.OnBus()
}

// list returns all rules of a kind, by id.
func (r *ruleSet) list(kind delivery.Kind) []*ruleEntry {
	var list []*ruleEntry
	if kind == delivery.KindEvent {
		for i := range r.FilterEntries() {
			list = append(list, filterEntry(&r.FilterEntries()[i]))
		}
		return list
	}
	for i := range r.Entries() {
		list = append(list, webhookEntry(&r.Entries()[i]))
	}
	return list
}

// entry finds one rule.
func (r *ruleSet) entry(l delivery.Lane) (*ruleEntry, error) {
	if l.Kind == delivery.KindEvent {
		if f := r.FilterEntry(l.RuleID); f != nil {
			return filterEntry(f), nil
		}
	} else {
		for i := range r.Entries() {
			if e := &r.Entries()[i]; e.Row.ID == l.RuleID {
				return webhookEntry(e), nil
			}
		}
	}
	return nil, &store.NoRuleError{Lane: l}
}
