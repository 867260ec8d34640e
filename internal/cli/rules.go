package cli

import (
	"context"
	"errors"
	"fmt"
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
	ID        int32     `json:"id"`
	Kind      string    `json:"kind"`
	Event     string    `json:"event"`
	EventType string    `json:"event_type"` // "" for a faulty rule
	URL       string    `json:"url"`        // scheme and host unless whole URLs were asked for, "" for a faulty rule then
	Format    string    `json:"format"`
	Enabled   bool      `json:"enabled"`
	Status    string    `json:"status"`
	Fault     string    `json:"fault"` // "" for a good rule
	Created   time.Time `json:"created"`
	Modified  time.Time `json:"modified"`
}

func view(e *rule.Entry, showURL bool) ruleView {
	v := ruleView{
		ID: e.Row.ID, Kind: e.Kind.String(), Event: e.Row.Event, Format: "json", Enabled: e.Row.Enabled, Status: e.Status().String(),
		Fault: e.Fault, Created: e.Row.Created, Modified: e.Row.Modified,
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

// rules reads and compiles all rows.
func (s *session) rules(ctx context.Context, c *config.Database) (*rule.Snapshot, error) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return nil, err
	}
	var snapshot *rule.Snapshot
	err = s.withStore(c, func(st *store.Store) error {
		rows, err := st.Webhooks(ctx)
		if err == nil {
			snapshot = rule.NewSnapshot(rows, catalogue)
		}
		return err
	})
	return snapshot, err
}

// entry reads one rule.
func (s *session) entry(ctx context.Context, c *config.Database, id int32) (*rule.Entry, error) {
	snapshot, err := s.rules(ctx, c)
	if err != nil {
		return nil, err
	}
	for i := range snapshot.Entries() {
		if e := &snapshot.Entries()[i]; e.Row.ID == id {
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
	snapshot, err := s.rules(ctx, &c.Database)
	if err != nil {
		return err
	}
	views := make([]ruleView, len(snapshot.Entries()))
	for i := range snapshot.Entries() {
		views[i] = view(&snapshot.Entries()[i], c.ShowURLs)
	}
	if c.JSON {
		return s.printJSON(views)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tKIND\tEVENT\tEVENT TYPE\tURL\tFORMAT\tENABLED\tFAULT")
	for _, v := range views {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.Kind, cell(v.Event), cell(v.EventType), cell(v.URL), v.Format,
			yesNo(v.Enabled), cell(v.Fault))
	}
	return table.Flush()
}

// Run shows one rule.
func (c *showCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, &c.Database)); err != nil {
		return err
	}
	e, err := s.entry(ctx, &c.Database, c.ID)
	if err != nil {
		return err
	}
	v := view(e, c.ShowURLs)
	if c.JSON {
		return s.printJSON(v)
	}
	table := tabwriter.NewWriter(s.Stdout, 0, 0, 2, ' ', 0)
	for _, line := range [...][2]string{
		{"id", strconv.Itoa(int(v.ID))},
		{"kind", v.Kind},
		{"event", v.Event},
		{"event type", v.EventType},
		{"url", v.URL},
		{"format", v.Format},
		{"enabled", yesNo(v.Enabled)},
		{"fault", v.Fault},
		{"created", v.Created.UTC().Format(time.RFC3339Nano)},
		{"modified", v.Modified.UTC().Format(time.RFC3339Nano)},
	} {
		fmt.Fprintf(table, "%s\t%s\n", line[0], cell(line[1]))
	}
	return table.Flush()
}
