package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// showFlags say how rules are shown.
type showFlags struct {
	JSON     bool `help:"Print one JSON document." name:"json"`
	ShowURLs bool `help:"Show whole URLs; their paths, queries and user info often hold secrets." name:"show-urls"`
}

type listCommand struct {
	ruleSettings
	kindFlag
	showFlags
}

type showCommand struct {
	ruleSettings
	kindFlag
	showFlags

	ID int32 `arg:"" help:"The rule's id."`
}

// Run lists the rules.
func (c *listCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, c.groups()...); err != nil {
		return err
	}
	var views []admin.RuleView
	err := s.withRules(&c.ruleSettings, func(a *admin.Admin) (err error) {
		views, err = a.ListRules(ctx, c.table(), c.ShowURLs)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(views)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	special := "PAUSED SINCE" // filters are never paused
	if c.filters() {
		special = "FLAGS"
	}
	fmt.Fprintf(table, "ID\tKIND\tEVENT\tEVENT TYPE\tURL\tSTATUS\tFORMAT\tENABLED\t%s\tFAULT\n", special)
	for i := range views {
		v := &views[i]
		special = optional(v.PausedAt)
		if c.filters() {
			special = flagsOf(v.WebfilterView)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Kind, cell(v.Event), cell(v.EventType), cell(v.URL),
			v.Status, v.Format, yesNo(v.Enabled), cell(special), cell(cmp.Or(v.Fault, v.Hold)))
	}
	if !c.filters() {
		s.noteResume(views)
	}
	return table.Flush()
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

// Run shows one rule.
func (c *showCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, c.groups()...); err != nil {
		return err
	}
	var v *admin.RuleView
	err := s.withRules(&c.ruleSettings, func(a *admin.Admin) (err error) {
		v, err = a.ShowRule(ctx, c.key(c.ID), c.ShowURLs)
		return err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.printJSON(v)
	}
	return s.printPairs(rulePairs(v))
}

// rulePairs are the lines of a rule shown as text.
func rulePairs(v *admin.RuleView) [][2]string {
	pairs := [][2]string{
		{"id", strconv.Itoa(int(v.ID))},
		{"kind", v.Kind},
		{"event", v.Event},
		{"event type", v.EventType},
		{"url", v.URL},
		{"format", v.Format},
		{"enabled", yesNo(v.Enabled)},
		{"status", v.Status},
	}
	if v.AdoptedAt != nil {
		pairs = append(pairs,
			[2]string{"adopted", optional(v.AdoptedAt)},
			[2]string{"released", optional(v.ReleasedAt)},
			[2]string{"enabled for the plugin", yesNo(v.PluginEnabled)})
	}
	if v.WebfilterView == nil {
		pairs = append(pairs, [2]string{"paused since", optional(v.PausedAt)})
	}
	pairs = append(pairs, webfilterPairs(v.WebfilterView)...)
	if v.PausedAt != nil {
		pairs = append(pairs,
			[2]string{"paused because", v.PauseReason},
			[2]string{"to resume", fmt.Sprintf("%s: webhook-dispatcher rules set %d --resume", v.Cure, v.ID)})
	}
	pairs = append(pairs, [2]string{"fault", v.Fault})
	if v.Hold != "" {
		pairs = append(pairs, [2]string{"nothing is sent because", v.Hold})
	}
	if string(v.Options) != "{}" {
		pairs = append(pairs, [2]string{"options", string(v.Options)})
	}
	if v.Secrets != nil {
		pairs = append(pairs, [2]string{"secrets", secretsLine(v.Secrets)})
	}
	return append(pairs,
		[2]string{"created", v.Created.UTC().Format(time.RFC3339Nano)},
		[2]string{"modified", v.Modified.UTC().Format(time.RFC3339Nano)})
}

// secretsLine says in one line which secrets a rule has.
func secretsLine(v *admin.SecretsView) string {
	if !v.Opened {
		return fmt.Sprintf("sealed with key %s", v.KeyID)
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
