package cli

import (
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
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

// change returns what the flags are to change.
func (f *filterFlags) change() admin.WebfilterChange {
	return admin.WebfilterChange{
		Description: f.Description.ptr(), DisableFiltering: f.DisableFiltering, DisableHalt: f.DisableHalt,
		HaltOn4xx: f.HaltOn4xx, RedirectOn4xx: f.RedirectOn4xx.ptr(), HaltOn5xx: f.HaltOn5xx, RedirectOn5xx: f.RedirectOn5xx.ptr(),
		HaltOnRequestException: f.HaltOnRequestException, RedirectOnRequestException: f.RedirectOnRequestException.ptr(),
	}
}

// flagsOf lists the flags of a webfilter that are set.
func flagsOf(v *admin.WebfilterView) string {
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

// webfilterPairs are the lines of a webfilter shown as text.
func webfilterPairs(v *admin.WebfilterView) [][2]string {
	if v == nil { // a webhook
		return nil
	}
	called := "before the webhooks of its event"
	if v.InRequest {
		called = "in the request of the LMS"
	}
	pairs := [][2]string{{"called", called}, {"description", v.Description}, {"flags", flagsOf(v)}}
	for _, r := range [...][2]string{
		{"redirect on 4xx", v.RedirectOn4xx}, {"redirect on 5xx", v.RedirectOn5xx}, {"redirect on no answer", v.RedirectOnRequestException},
	} {
		if r[1] != "" {
			pairs = append(pairs, r)
		}
	}
	return pairs
}
