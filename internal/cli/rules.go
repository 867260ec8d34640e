package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

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
	rules, err := s.rules(ctx, &c.ruleSettings)
	if err != nil {
		return err
	}
	list := rules.Entries(c.table())
	views := make([]ruleView, len(list))
	for i := range list {
		views[i] = rules.view(&list[i], c.ShowURLs)
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
			special = v.flags()
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Kind, cell(v.Event), cell(v.EventType), cell(v.URL),
			v.Status, v.Format, yesNo(v.Enabled), cell(special), cell(v.wrong()))
	}
	if !c.filters() {
		s.noteResume(list)
	}
	return table.Flush()
}

// noteResume says how to go on with rules that would be sent were they not paused. Those that are switched off, faulty or the plugin's
// are not among them: ending their pause would send nothing.
func (s *session) noteResume(list []rule.Entry) {
	paused := make(map[string]int)
	for i := range list {
		if e := &list[i]; e.Status() == rule.Paused && !e.PausedAt().IsZero() {
			paused[cure(e)]++
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
	rules, err := s.rules(ctx, &c.ruleSettings)
	if err != nil {
		return err
	}
	e, err := rules.entry(c.key(c.ID))
	if err != nil {
		return err
	}
	v := rules.view(e, c.ShowURLs)
	if c.JSON {
		return s.printJSON(v)
	}
	return s.printPairs(v.pairs())
}

// pairs are the lines of a rule shown as text.
func (v *ruleView) pairs() [][2]string {
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
	if v.filterView == nil {
		pairs = append(pairs, [2]string{"paused since", optional(v.PausedAt)})
	}
	pairs = append(pairs, v.columns()...)
	if v.PausedAt != nil {
		pairs = append(pairs,
			[2]string{"paused because", v.PauseReason},
			[2]string{"to resume", fmt.Sprintf("%s: webhook-dispatcher rules set %d --resume", v.cure, v.ID)})
	}
	pairs = append(pairs, [2]string{"fault", v.Fault})
	if v.Hold != "" {
		pairs = append(pairs, [2]string{"nothing is sent because", v.Hold})
	}
	if string(v.Options) != "{}" {
		pairs = append(pairs, [2]string{"options", string(v.Options)})
	}
	if v.Secrets != nil {
		pairs = append(pairs, [2]string{"secrets", v.Secrets.String()})
	}
	return append(pairs,
		[2]string{"created", v.Created.UTC().Format(time.RFC3339Nano)},
		[2]string{"modified", v.Modified.UTC().Format(time.RFC3339Nano)})
}
