package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// Operations know nothing of flags and commands. Every error of several gets its words, in its
// place, even where two have the same text.
func TestExplain(t *testing.T) {
	t.Parallel()
	webfilter := rule.Key{Table: rule.Webfilters, ID: 7}
	state := func(s rule.Status) error { return &admin.RuleStateError{ID: 7, Status: s, Fault: "it is broken"} }
	missing := &store.NoRuleError{Key: webfilter}
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("add `x`"), "add `x`"},
		{
			fmt.Errorf("list: %w", &admin.Problem{Field: "event", Reason: "it is unknown", Fix: "leave out `since`", See: admin.SeeEvents}),
			"list: --event: it is unknown: leave out --since; see events list",
		},
		{&admin.Problem{Reason: "write `all`"}, "write --all"},
		{&admin.NotFoundError{Reason: "there is no record 9", See: admin.SeeUndecodable}, "there is no record 9; see undecodable list"},
		{state(rule.Disabled), "rule 7 is disabled, so nothing is sent for it: rules set 7 --enable, then repeat the command"},
		{state(rule.Foreign), "rule 7 is not adopted, so nothing is sent for it: rules adopt 7, then repeat the command"},
		{state(rule.Faulty), "rule 7 cannot be used: it is broken; correct it, then repeat the command"},
		{
			errors.Join(missing, errors.New("other"), missing),
			"there is no webfilter rule 7; see rules list --kind webfilter\nother\n" +
				"there is no webfilter rule 7; see rules list --kind webfilter",
		},
		{
			fmt.Errorf("enable: %w", &store.ContestedError{Key: webfilter}),
			"enable: it is adopted, and somebody has enabled its row for the plugin, too: " +
				"run rules adopt 7 --kind webfilter, or rules release 7 --kind webfilter, first",
		},
	} {
		if got := explain(c.err); got != c.want {
			t.Errorf("%v:\n%s\nwant:\n%s", c.err, got, c.want)
		}
	}
}
