package cli

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// filterFlags are the columns that only webfilter rows have. Switches take =false.
type filterFlags struct {
	Description                text  `placeholder:"TEXT" help:"What the row is for."`
	DisableFiltering           *bool `help:"Leave out the data of answers."`
	DisableHalt                *bool `help:"Leave out the exceptions of answers."`
	HaltOn4xx                  *bool `name:"halt-on-4xx" help:"Stop what was about to happen on an answer with a status 4xx."`
	RedirectOn4xx              text  `name:"redirect-on-4xx" placeholder:"URL" help:"Where the learner is sent then."`
	HaltOn5xx                  *bool `name:"halt-on-5xx" help:"The same on 5xx."`
	RedirectOn5xx              text  `name:"redirect-on-5xx" placeholder:"URL" help:"Where the learner is sent then."`
	HaltOnRequestException     *bool `help:"The same where no answer comes."`
	RedirectOnRequestException text  `placeholder:"URL" help:"Where the learner is sent then."`
}

// switches are the flags of a webfilter row by name, in the order of its columns.
func (f *filterFlags) switches() []struct {
	name  string
	given *bool
	of    func(*rule.WebfilterRow) *bool
} {
	return []struct {
		name  string
		given *bool
		of    func(*rule.WebfilterRow) *bool
	}{
		{"disable-filtering", f.DisableFiltering, func(r *rule.WebfilterRow) *bool { return &r.DisableFiltering }},
		{"disable-halt", f.DisableHalt, func(r *rule.WebfilterRow) *bool { return &r.DisableHalt }},
		{"halt-on-4xx", f.HaltOn4xx, func(r *rule.WebfilterRow) *bool { return &r.HaltOn4xx }},
		{"halt-on-5xx", f.HaltOn5xx, func(r *rule.WebfilterRow) *bool { return &r.HaltOn5xx }},
		{"halt-on-request-exception", f.HaltOnRequestException, func(r *rule.WebfilterRow) *bool { return &r.HaltOnRequestException }},
	}
}

// redirects are the URLs of a webfilter row.
func (f *filterFlags) redirects() []struct {
	flag
	of func(*rule.WebfilterRow) *string
} {
	return []struct {
		flag
		of func(*rule.WebfilterRow) *string
	}{
		{flag{"redirect-on-4xx", &f.RedirectOn4xx}, func(r *rule.WebfilterRow) *string { return &r.RedirectOn4xx }},
		{flag{"redirect-on-5xx", &f.RedirectOn5xx}, func(r *rule.WebfilterRow) *string { return &r.RedirectOn5xx }},
		{flag{"redirect-on-request-exception", &f.RedirectOnRequestException}, func(r *rule.WebfilterRow) *string {
			return &r.RedirectOnRequestException
		}},
	}
}

// given returns the name of a flag that was given, "" where none was.
func (f *filterFlags) given() string {
	for _, s := range f.switches() {
		if s.given != nil {
			return s.name
		}
	}
	for _, r := range f.redirects() {
		if r.given {
			return r.name
		}
	}
	if f.Description.given {
		return "description"
	}
	return ""
}

// check refuses values that the row must not have.
func (f *filterFlags) check(k kindFlag) error {
	if name := f.given(); name != "" && !k.filters() {
		return usagef("--%s is for webfilters: add --kind webfilter", name)
	}
	for _, r := range f.redirects() {
		if r.value == "" {
			continue
		}
		if _, err := rule.ParseURL(r.value); err != nil {
			return usagef("--%s: write a URL with http:// or https:// and a host, of %d characters at most", r.name, rule.MaxURL)
		}
	}
	if !utf8.ValidString(f.Description.value) {
		return usagef("--description: the value is not UTF-8")
	}
	return nil
}

// fill puts what was given into a row.
func (f *filterFlags) fill(row *rule.WebfilterRow) {
	for _, s := range f.switches() {
		if s.given != nil {
			*s.of(row) = *s.given
		}
	}
	for _, r := range f.redirects() {
		if r.given {
			*r.of(row) = r.value
		}
	}
	if f.Description.given {
		row.Description = f.Description.value
	}
}

// setFlags changes the columns of a webfilter row.
func (c *setCommand) setFlags(ctx context.Context, s *session, st *store.Store, e *rule.Entry) error {
	changed, err := st.ChangeWebfilter(ctx, c.ID, func(row *rule.WebfilterRow) error {
		c.fill(row)
		return nil
	})
	if err != nil {
		return err
	}
	state := "has these flags already"
	if changed {
		state = "has other flags now"
	}
	_, err = fmt.Fprintf(s.Stdout, "%s %s\n", e.Key.Label(), state)
	return err
}

// filterView is what commands show of a webfilter beside what all rules have.
type filterView struct {
	InRequest                  bool   `json:"in_request"` // else it is called before the webhooks of an event; false for a faulty row
	Description                string `json:"description"`
	DisableFiltering           bool   `json:"disable_filtering"`
	DisableHalt                bool   `json:"disable_halt"`
	HaltOn4xx                  bool   `json:"halt_on_4xx"`
	RedirectOn4xx              string `json:"redirect_on_4xx"` // learners are sent there, so it is no secret
	HaltOn5xx                  bool   `json:"halt_on_5xx"`
	RedirectOn5xx              string `json:"redirect_on_5xx"`
	HaltOnRequestException     bool   `json:"halt_on_request_exception"`
	RedirectOnRequestException string `json:"redirect_on_request_exception"`
}

// viewFilter returns the view of a webfilter, nil for a webhook.
func viewFilter(e *rule.Entry) *filterView {
	if e.WebfilterRow == nil {
		return nil
	}
	row := e.WebfilterRow
	return &filterView{
		InRequest: inRequest(e), Description: row.Description, DisableFiltering: row.DisableFiltering, DisableHalt: row.DisableHalt,
		HaltOn4xx: row.HaltOn4xx, RedirectOn4xx: row.RedirectOn4xx, HaltOn5xx: row.HaltOn5xx, RedirectOn5xx: row.RedirectOn5xx,
		HaltOnRequestException: row.HaltOnRequestException, RedirectOnRequestException: row.RedirectOnRequestException,
	}
}

// flags lists the flags that are set.
func (v *filterView) flags() string {
	var set []string
	for _, f := range [...]struct {
		name     string
		on       bool
		redirect string
	}{
		{"disable_filtering", v.DisableFiltering, ""},
		{"disable_halt", v.DisableHalt, ""},
		{"halt_on_4xx", v.HaltOn4xx, v.RedirectOn4xx},
		{"halt_on_5xx", v.HaltOn5xx, v.RedirectOn5xx},
		{"halt_on_request_exception", v.HaltOnRequestException, v.RedirectOnRequestException},
	} {
		switch {
		case f.on && f.redirect != "":
			set = append(set, f.name+" (redirects)")
		case f.on:
			set = append(set, f.name)
		}
	}
	return strings.Join(set, ", ")
}

// columns are the lines of a webfilter shown as text.
func (v *filterView) columns() [][2]string {
	if v == nil { // a webhook
		return nil
	}
	called := "before the webhooks of its event"
	if v.InRequest {
		called = "in the request of the LMS"
	}
	pairs := [][2]string{{"called", called}, {"description", v.Description}, {"flags", v.flags()}}
	for _, r := range [...][2]string{
		{"redirect on 4xx", v.RedirectOn4xx}, {"redirect on 5xx", v.RedirectOn5xx}, {"redirect on no answer", v.RedirectOnRequestException},
	} {
		if r[1] != "" {
			pairs = append(pairs, r)
		}
	}
	return pairs
}
