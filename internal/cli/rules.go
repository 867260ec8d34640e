package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/preset"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// showFlags say how rules are shown.
type showFlags struct {
	jsonFlag

	ShowURLs bool `help:"Show whole URLs; their paths, queries and user info often hold secrets." name:"show-urls"`
}

type listCommand struct {
	ruleSettings
	kindFlag
	showFlags
}

// Run lists the rules.
func (c *listCommand) Run(ctx context.Context, s *session) error {
	return s.withRules(ctx, &c.ruleSettings, func(a *admin.Admin) error {
		views, err := a.ListRules(ctx, c.table(), c.ShowURLs)
		if err != nil {
			return err
		}
		special := "PAUSED SINCE" // filters are never paused
		if c.filters() {
			special = "FLAGS"
		} else if !c.JSON {
			s.noteResume(views)
		}
		head := "ID, KIND, EVENT, EVENT TYPE, URL, STATUS, FORMAT, ENABLED, " + special + ", FAULT"
		return printList(s.Process, c.JSON, head, views, func(v *admin.RuleView) []any {
			var special any = v.PausedAt
			if c.filters() {
				special = flagsOf(v.WebfilterView)
			}
			return []any{v.ID, v.Kind, v.Event, v.EventType, v.URL, v.Status, v.Format, v.Enabled, special, cmp.Or(v.Fault, v.Hold)}
		})
	})
}

// noteResume says how to go on with rules that would be sent were they not paused. Those that are switched off, faulty or the plugin's
// are not among them: ending their pause would send nothing.
func (s *session) noteResume(views []admin.RuleView) {
	paused := make(map[string]int)
	for i := range views {
		if v := &views[i]; v.Status == rule.Paused.String() && v.PausedAt != nil {
			paused[v.Cure]++
		}
	}
	for _, cure := range slices.Sorted(maps.Keys(paused)) {
		fmt.Fprintf(s.Stderr, "webhook-dispatcher: %s paused: %s, run webhook-dispatcher rules set ID --resume\n",
			counted(paused[cure], "rule is", "rules are"), cure)
	}
}

type showCommand struct {
	ruleSettings
	kindFlag
	showFlags

	ID int32 `arg:"" help:"The rule's id."`
}

// Run shows one rule.
func (c *showCommand) Run(ctx context.Context, s *session) error {
	return s.withRules(ctx, &c.ruleSettings, func(a *admin.Admin) error {
		v, err := a.ShowRule(ctx, c.key(c.ID), c.ShowURLs)
		if err != nil {
			return err
		}
		return s.printDetail(c.JSON, v, rulePairs(v))
	})
}

// rulePairs are the lines of a rule shown as text.
func rulePairs(v *admin.RuleView) pairs {
	all := pairs{
		"id", v.ID, "kind", v.Kind, "event", v.Event, "event type", v.EventType, "url", v.URL, "format", v.Format,
		"enabled", v.Enabled, "status", v.Status,
	}
	add := func(shown bool, name string, value any) {
		if shown {
			all = append(all, name, value)
		}
	}
	add(v.AdoptedAt != nil, "adopted", v.AdoptedAt)
	add(v.AdoptedAt != nil, "released", v.ReleasedAt)
	add(v.AdoptedAt != nil, "enabled for the plugin", v.PluginEnabled)
	if f := v.WebfilterView; f != nil {
		called := "before the webhooks of its event"
		if f.InRequest {
			called = "in the request of the LMS"
		}
		all = append(all, "called", called, "description", f.Description, "flags", flagsOf(f))
		add(f.RedirectOn4xx != "", "redirect on 4xx", f.RedirectOn4xx)
		add(f.RedirectOn5xx != "", "redirect on 5xx", f.RedirectOn5xx)
		add(f.RedirectOnRequestException != "", "redirect on no answer", f.RedirectOnRequestException)
	} else {
		add(true, "paused since", v.PausedAt)
	}
	add(v.PausedAt != nil, "paused because", v.PauseReason)
	add(v.PausedAt != nil, "to resume", fmt.Sprintf("%s: webhook-dispatcher rules set %d --resume", v.Cure, v.ID))
	add(true, "fault", v.Fault)
	add(v.Hold != "", "nothing is sent because", v.Hold)
	add(string(v.Options) != "{}", "options", string(v.Options))
	add(v.Secrets != nil, "secrets", secretsLine(v.Secrets))
	add(true, "created", v.Created.UTC().Format(time.RFC3339Nano))
	add(true, "modified", v.Modified.UTC().Format(time.RFC3339Nano))
	return all
}

// flagsOf lists the flags of a webfilter that are set.
func flagsOf(v *admin.WebfilterView) string {
	var set []string
	add := func(name string, on bool, redirect string) {
		if on && redirect != "" {
			name += " (redirects)"
		}
		if on {
			set = append(set, name)
		}
	}
	add("disable_filtering", v.DisableFiltering, "")
	add("disable_halt", v.DisableHalt, "")
	add("halt_on_4xx", v.HaltOn4xx, v.RedirectOn4xx)
	add("halt_on_5xx", v.HaltOn5xx, v.RedirectOn5xx)
	add("halt_on_request_exception", v.HaltOnRequestException, v.RedirectOnRequestException)
	return strings.Join(set, ", ")
}

// secretsLine says in one line which secrets a rule has.
func secretsLine(v *admin.SecretsView) string {
	switch {
	case v == nil:
		return ""
	case !v.Opened:
		return "sealed with key " + v.KeyID
	}
	var parts []string
	for _, s := range v.Signing {
		part := "signing " + s.Secret
		if s.Until != nil {
			part += " until " + moment(*s.Until)
		}
		parts = append(parts, part)
	}
	if v.Auth != "" {
		parts = append(parts, "auth "+v.Auth)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Headers)) {
		parts = append(parts, fmt.Sprintf("header %s: %s", name, v.Headers[name]))
	}
	if v.ClientCert {
		parts = append(parts, "client certificate")
	}
	return fmt.Sprintf("%s (sealed with key %s)", strings.Join(parts, ", "), v.KeyID)
}

type presetsCommand struct{ jsonFlag }

// Run lists the presets.
func (c *presetsCommand) Run(s *session) error {
	views, err := admin.Presets()
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(views)
	}
	var b strings.Builder
	for i := range views {
		v := &views[i]
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s, for %s\n    %s\n", v.Name, v.Event, v.Summary)
		if v.Secret != "" {
			fmt.Fprintf(&b, "    --secret: %s\n", v.Secret)
		}
		for _, p := range v.Parameters {
			fmt.Fprintf(&b, "    --param %s=VALUE: %s%s\n", p.Name, p.Help, remark(&p))
		}
	}
	_, err = s.Stdout.Write([]byte(b.String()))
	return err
}

// remark says what else a parameter's help leaves open.
func remark(p *preset.Parameter) string {
	switch {
	case len(p.Choices) > 0:
		return " (" + strings.Join(p.Choices, ", ") + "; optional)"
	case p.Default != "":
		return " (" + p.Default + " by default)"
	case !p.Required:
		return " (optional)"
	}
	return ""
}

type eventsListCommand struct{ jsonFlag }

// Run lists what rules can be for. It reads no settings, so it works with wrong ones.
func (c *eventsListCommand) Run(s *session) error {
	a, err := newAdmin(admin.Options{})
	if err != nil {
		return err
	}
	views := a.Events()
	return printList(s.Process, c.JSON, "EVENT, KIND, EVENT TYPE, ON BUS, PLUGIN", views, func(v *admin.EventView) []any {
		return []any{v.Event, v.Kind, v.EventType, v.OnBus, v.Plugin}
	})
}

type eventsShowCommand struct {
	Event string `arg:"" help:"The event: its signal's constant, or its type."`
}

// Run prints a sample, which rules test --event takes as a file. It reads no settings either.
func (c *eventsShowCommand) Run(s *session) error {
	a, err := newAdmin(admin.Options{})
	if err != nil {
		return err
	}
	message, err := a.Sample(c.Event)
	if problem, unknown := errors.AsType[*admin.Problem](err); unknown {
		problem.Field = "" // here the event is an argument
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Stdout, "%s\n", message.Body(delivery.FormatJSON))
	return err
}
