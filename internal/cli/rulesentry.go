package cli

import (
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// kindFlag chooses the plugin's table.
type kindFlag struct {
	Kind string `enum:"webhook,webfilter" default:"webhook" help:"Kind of rule: webhook or webfilter."`
}

func (k kindFlag) table() rule.Table { return rule.ParseTable(k.Kind) }

func (k kindFlag) filters() bool { return k.table() == rule.Webfilters }

func (k kindFlag) key(id int32) rule.Key { return rule.Key{Table: k.table(), ID: id} }

// command returns a command for a rule, such as "rules set 7 --resume".
func command(name string, key rule.Key, flags string) string {
	return "rules " + name + " " + key.Arguments() + flags
}

// shownHold is the hold, where it is worth a word.
func shownHold(e *rule.Entry) string {
	if e.AsksUs() {
		return ""
	}
	return e.Hold
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

// entry finds one rule.
func (r *ruleSet) entry(key rule.Key) (*rule.Entry, error) {
	if e := r.Entry(key); e != nil {
		return e, nil
	}
	return nil, &store.NoRuleError{Key: key}
}
