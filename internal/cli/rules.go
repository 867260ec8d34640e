package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// kindFlag chooses the table. Rows of filters are known by name only in this version.
type kindFlag struct {
	Kind string `enum:"webhook,webfilter" default:"webhook" help:"Kind of rule: webhook or webfilter."`
}

func (k kindFlag) check() error {
	if k.Kind != delivery.KindWebhook.String() {
		return usagef("--kind %s: this version does not know filters yet; leave the flag out", k.Kind)
	}
	return nil
}

// showFlags say how rules are shown.
type showFlags struct {
	JSON     bool `help:"Print one JSON document." name:"json"`
	ShowURLs bool `help:"Show whole URLs; their paths, queries and user info often hold secrets." name:"show-urls"`
}

type listCommand struct {
	config.Database
	kindFlag
	showFlags
}

type showCommand struct {
	config.Database
	kindFlag
	showFlags

	ID int32 `arg:"" help:"The rule's id."`
}

// ruleView is a rule as commands show it.
type ruleView struct {
	ID        int32  `json:"id"`
	Kind      string `json:"kind"`
	Event     string `json:"event"`
	EventType string `json:"event_type"` // "" for a faulty rule
	URL       string `json:"url"`        // scheme and host unless whole URLs were asked for, "" for a faulty rule then
	Format    string `json:"format"`
	Enabled   bool   `json:"enabled"`
	Status    string `json:"status"` // active, paused, disabled or faulty
	// PausedAt is since when the rule is paused, null where it is not. A disabled or faulty rule may be paused as well.
	PausedAt    *time.Time `json:"paused_at"`
	PauseReason string     `json:"pause_reason"` // "" where it is not paused, or nobody has said
	Fault       string     `json:"fault"`        // "" for a good rule
	Created     time.Time  `json:"created"`
	Modified    time.Time  `json:"modified"`
}

func (r *ruleSet) view(e *rule.Entry, showURL bool) ruleView {
	v := ruleView{
		ID: e.Row.ID, Kind: e.Kind.String(), Event: e.Row.Event, Format: "json", Enabled: e.Row.Enabled, Status: e.Status().String(),
		PausedAt: orNull(e.PausedAt()), Fault: e.Fault, Created: e.Row.Created, Modified: e.Row.Modified,
	}
	if v.PausedAt != nil {
		v.PauseReason = string(r.reasons[delivery.Lane{Kind: e.Kind, RuleID: e.Row.ID}])
	}
	if e.Row.Form {
		v.Format = "form"
	}
	if e.Rule != nil {
		v.EventType, v.URL = e.Rule.EventType, e.Rule.Target
	}
	if showURL {
		v.URL = e.Row.URL
	}
	return v
}

// withStore runs use on an open store.
func (s *session) withStore(c *config.Database, use func(*store.Store) error) error {
	options, err := storeOptions(c, s.log)
	if err != nil {
		return err
	}
	opened, err := store.Open(options)
	if err != nil {
		return err
	}
	return errors.Join(use(opened), opened.Close())
}

// ruleSet is all rules with what else commands show of them.
type ruleSet struct {
	*rule.Snapshot
	reasons map[delivery.Lane]delivery.Reason // of pauses
}

// readRules reads and compiles all rows.
func readRules(ctx context.Context, st *store.Store) (*ruleSet, error) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return nil, err
	}
	rows, err := st.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	options, err := st.RuleOptions(ctx)
	if err != nil {
		return nil, err
	}
	r := &ruleSet{Snapshot: rule.NewSnapshot(rows, options, catalogue)}
	if !slices.ContainsFunc(r.Entries(), func(e rule.Entry) bool { return !e.PausedAt().IsZero() }) {
		return r, nil
	}
	records, err := st.LaneRecords(ctx)
	if err != nil {
		return nil, err
	}
	r.reasons = make(map[delivery.Lane]delivery.Reason)
	for i := range records {
		r.reasons[records[i].Lane] = records[i].PauseReason
	}
	return r, nil
}

// rules reads and compiles all rows.
func (s *session) rules(ctx context.Context, c *config.Database) (read *ruleSet, err error) {
	err = s.withStore(c, func(st *store.Store) error {
		read, err = readRules(ctx, st)
		return err
	})
	return read, err
}

// entry finds one rule.
func (r *ruleSet) entry(id int32) (*rule.Entry, error) {
	for i := range r.Entries() {
		if e := &r.Entries()[i]; e.Row.ID == id {
			return e, nil
		}
	}
	return nil, fmt.Errorf("there is no webhook rule %d; see rules list", id)
}

// Run lists the rules.
func (c *listCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	rules, err := s.rules(ctx, &c.Database)
	if err != nil {
		return err
	}
	views, paused := make([]ruleView, len(rules.Entries())), 0
	for i := range rules.Entries() {
		views[i] = rules.view(&rules.Entries()[i], c.ShowURLs)
		if views[i].PausedAt != nil {
			paused++
		}
	}
	if c.JSON {
		return s.printJSON(views)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tKIND\tEVENT\tEVENT TYPE\tURL\tFORMAT\tENABLED\tPAUSED SINCE\tFAULT")
	for _, v := range views {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Kind, cell(v.Event), cell(v.EventType), cell(v.URL),
			v.Format, yesNo(v.Enabled), cell(optional(v.PausedAt)), cell(v.Fault))
	}
	if paused > 0 {
		fmt.Fprintf(s.Stderr, "webhook-dispatcher: %s paused: once the endpoint is well, run webhook-dispatcher rules set ID --resume\n",
			counted(paused, "rule is", "rules are"))
	}
	return table.Flush()
}

// Run shows one rule.
func (c *showCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	rules, err := s.rules(ctx, &c.Database)
	if err != nil {
		return err
	}
	e, err := rules.entry(c.ID)
	if err != nil {
		return err
	}
	v := rules.view(e, c.ShowURLs)
	if c.JSON {
		return s.printJSON(v)
	}
	pairs := [][2]string{
		{"id", strconv.Itoa(int(v.ID))},
		{"kind", v.Kind},
		{"event", v.Event},
		{"event type", v.EventType},
		{"url", v.URL},
		{"format", v.Format},
		{"enabled", yesNo(v.Enabled)},
		{"paused since", optional(v.PausedAt)},
	}
	if v.PausedAt != nil {
		pairs = append(pairs,
			[2]string{"paused because", v.PauseReason},
			[2]string{"to resume", fmt.Sprintf("once its endpoint is well: webhook-dispatcher rules set %d --resume", v.ID)})
	}
	pairs = append(pairs,
		[2]string{"fault", v.Fault},
		[2]string{"created", v.Created.UTC().Format(time.RFC3339Nano)},
		[2]string{"modified", v.Modified.UTC().Format(time.RFC3339Nano)})
	return s.printPairs(pairs)
}
