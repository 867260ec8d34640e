package admin_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/preset"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// The names are those of the options, which the fields do not have.
func TestGivenColumns(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]admin.WebfilterChange{
		"":                              {},
		"description":                   {Description: new("")},
		"disable-filtering":             {DisableFiltering: new(false)},
		"halt-on-4xx":                   {HaltOn4xx: new(true), RedirectOn5xx: new("https://h/")},
		"redirect-on-request-exception": {RedirectOnRequestException: new("https://h/")},
	} {
		if got := c.Given(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		problem, wrong := errors.AsType[*admin.Problem](c.Check(rule.Webhooks))
		if wrong != (want != "") || wrong && problem.Field != want {
			t.Errorf("%q for a webhook: %v", want, problem)
		}
		if err := c.Check(rule.Webfilters); err != nil {
			t.Errorf("%q for a webfilter: %v", want, err)
		}
	}
	wrong := admin.WebfilterChange{RedirectOn5xx: new("ftp://h/")}
	if problem, ok := errors.AsType[*admin.Problem](wrong.Check(rule.Webfilters)); !ok || problem.Field != "redirect-on-5xx" {
		t.Errorf("a wrong redirect: %v", problem)
	}
}

// To take something away is a change, too.
func TestEmptyChange(t *testing.T) {
	t.Parallel()
	if !(&admin.OptionChange{}).Empty() {
		t.Error("no change is one")
	}
	for _, c := range []admin.OptionChange{
		{Filter: new("")}, {Rate: new(0.0)}, {Params: map[string]string{"a": ""}}, {Headers: []admin.Header{{}}},
	} {
		if c.Empty() {
			t.Errorf("%+v is taken for no change", c)
		}
	}
}

// What is refused is refused before the database is asked: the store of this test has no rules to add to.
func TestRulesThatAreNotAdded(t *testing.T) {
	t.Parallel()
	presets, err := preset.All()
	if err != nil {
		t.Fatal(err)
	}
	params := make(map[string]string)
	for _, p := range presets[0].Parameters {
		params[p.Name] = "https://lms.example.org"
		if len(p.Choices) > 0 {
			params[p.Name] = p.Choices[0]
		}
	}
	of := admin.OptionChange{Preset: &presets[0].Name, Params: params, Scheme: new("none")}
	a := operations(t, admin.Options{Store: &rows{}})
	for want, n := range map[string]admin.NewRule{
		"`event` is missing: write a signal":   {Table: rule.Webhooks},
		"`event` is missing: write the name":   {Table: rule.Webfilters, URL: "https://h/"},
		"the rule is refused: the URL's":       {Table: rule.Webhooks, Event: "BADGE_AWARDED", URL: "ftp://h/"},
		", and the rule wants org.openedx.lea": {Table: rule.Webhooks, Event: "BADGE_AWARDED", URL: "https://h/", Options: of},
		"it has secrets, and they cannot be s": {
			Table: rule.Webhooks, Event: "BADGE_AWARDED", URL: "https://h/", Options: admin.OptionChange{Auth: new("bearer"), AuthToken: new("t")},
		},
	} {
		_, err := a.AddRule(t.Context(), &n)
		if _, wrong := errors.AsType[*admin.Problem](err); !wrong || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}
