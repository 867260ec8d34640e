package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// ofWebfilters runs a case that is about webhook rules with webfilters: both tables are treated alike.
func ofWebfilters(run func(*testing.T, *bench)) func(*testing.T, *bench) {
	return func(t *testing.T, b *bench) {
		b.kind = rule.Webfilters
		run(t, b)
	}
}

func (b *bench) key(id int32) rule.Key { return rule.Key{Table: b.kind, ID: id} }

// table is the plugin's table of the case's rules.
func (b *bench) table() string { return "openedx_webhooks_" + b.kind.String() }

// insertInto returns a statement that writes rows with the columns of a webhook.
func (b *bench) insertInto(columns string) string {
	if b.kind == rule.Webfilters {
		of := strings.NewReplacer("use_www_form_encoding)", `use_www_form_encoding, description, disable_filtering, disable_halt, halt_on_4xx,
  redirect_on_4xx, halt_on_5xx, redirect_on_5xx, halt_on_request_exception, redirect_on_request_exception)`,
			"),", ", '', 0, 0, 0, '', 0, '', 0, ''),")
		columns = strings.TrimSuffix(of.Replace(columns+","), ",")
	}
	return "INSERT INTO " + b.table() + " " + columns
}

// add makes a rule.
func (b *bench) add(
	ctx context.Context, s *store.Store, row rule.Row, option func(int32, time.Time) (*rule.Option, error),
) (int32, error) {
	if b.kind == rule.Webfilters {
		return s.AddWebfilter(ctx, rule.WebfilterRow{Row: row}, option)
	}
	return s.AddWebhook(ctx, row, option)
}

// filters returns all webfilter rows.
func (b *bench) filters(t *testing.T) []rule.WebfilterRow {
	t.Helper()
	table, err := b.store.Rules(t.Context())
	must(t, err)
	return table.Webfilters
}

// rows returns the rows of the case's rules.
func (b *bench) rows(t *testing.T) []rule.Row {
	t.Helper()
	table, err := b.store.Rules(t.Context())
	must(t, err)
	if b.kind == rule.Webfilters {
		table.Webhooks = nil
		for _, row := range table.Webfilters {
			table.Webhooks = append(table.Webhooks, row.Row)
		}
	}
	return table.Webhooks
}

// fullFilter has all that a webfilter row can have.
func fullFilter() rule.WebfilterRow {
	return rule.WebfilterRow{
		Row:         rule.Row{Event: "CourseEnrollmentStarted", URL: "https://example.org/'\\\"%?é", Enabled: true, Form: true},
		Description: "who may enrol, '\"\\ é",
		WebfilterFlags: rule.WebfilterFlags{
			DisableFiltering: true, DisableHalt: true, HaltOn4xx: true, RedirectOn4xx: "https://h/4", HaltOn5xx: true,
			RedirectOn5xx: "https://h/5", HaltOnRequestException: true, RedirectOnRequestException: "https://h/é",
		},
	}
}

// webfilters writes rows and reads them again, beside webhooks and options of the same ids.
func webfilters(t *testing.T, b *bench) {
	want(t, "webfilters of an empty table", len(b.filters(t)), 0)
	webhook, _ := b.addRule(t, "u")
	full := fullFilter()
	before := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	id, err := b.rules.AddWebfilter(t.Context(), full, nil)
	must(t, err)
	after := one[time.Time](t, b.admin, "SELECT UTC_TIMESTAMP(6)")
	want(t, "id, in a table of its own", id, webhook.ID)
	second, err := b.rules.AddWebfilter(t.Context(), rule.WebfilterRow{Row: rule.Row{Event: "E", URL: "u"}}, nil)
	must(t, err)
	got := b.filters(t)
	if len(got) != 2 || got[0].Created.Before(before) || got[0].Created.After(after) {
		t.Fatalf("got %+v, want two made between %s and %s", got, before, after)
	}
	full.ID, full.Created, full.Modified = id, got[0].Created, got[0].Created
	want(t, "the row", got[0], full)
	want(t, "a row without flags", got[1].WebfilterFlags, rule.WebfilterFlags{})

	// The options of a webhook and of a webfilter with the same id have nothing to do with each other.
	b.change(t, webhook, true, func(o *rule.Option) { o.Document = `{"filter":"true"}` })
	filter := rule.Key{Table: rule.Webfilters, ID: id}
	b.change(t, filter, true, func(o *rule.Option) {
		want(t, "the webfilter's options", o.Document, "")
		o.Document = `{"timeout":"1s"}`
	})
	want(t, "the webhook's options", b.option(t, webhook).Document, `{"filter":"true"}`)
	table, err := b.store.Rules(t.Context())
	must(t, err)
	want(t, "options", len(table.Options), 2)
	want(t, "webhooks", len(table.Webhooks), 1)
	for l, exists := range map[delivery.Lane]bool{
		filter.Lane(): true, {Kind: delivery.KindEvent, RuleID: second}: true, {Kind: delivery.KindEvent, RuleID: second + 1}: false,
		{Kind: delivery.KindWebhook, RuleID: second}: false, {Kind: delivery.KindEvent}: true, // events whose filter was not known
	} {
		found, err := b.store.RuleExists(t.Context(), l)
		must(t, err)
		want(t, fmt.Sprintf("rule of %v exists", l), found, exists)
	}
	if _, err := b.store.PauseRule(t.Context(), delivery.Lane{Kind: delivery.KindEvent}, delivery.ReasonGone); err == nil {
		t.Error("the lane of events without a filter was paused as if it were a rule")
	}

	long := "https://example.org/" + strings.Repeat("s", 255)
	for what, change := range map[string]func(*rule.WebfilterRow){
		"a URL too long":                    func(r *rule.WebfilterRow) { r.URL = long },
		"a redirect too long":               func(r *rule.WebfilterRow) { r.RedirectOn4xx = long },
		"another redirect too long":         func(r *rule.WebfilterRow) { r.RedirectOn5xx = long },
		"the third redirect too long":       func(r *rule.WebfilterRow) { r.RedirectOnRequestException = long },
		"an event too long":                 func(r *rule.WebfilterRow) { r.Event = strings.Repeat("E", 51) },
		"a description that is no text":     func(r *rule.WebfilterRow) { r.Description = "\xff" },
		"a redirect that is no text at all": func(r *rule.WebfilterRow) { r.RedirectOn5xx = "\xff" },
	} {
		row := fullFilter()
		change(&row)
		if _, err := b.rules.AddWebfilter(t.Context(), row, nil); err == nil || strings.Contains(err.Error(), "ssss") {
			t.Errorf("%s: got %v, want an error without the value", what, err)
		}
	}
	want(t, "rows", len(b.filters(t)), 2)
	if b.target.Real {
		mustExec(t, b.admin, "ALTER TABLE openedx_webhooks_webfilter CONVERT TO CHARACTER SET latin1")
		full.Description = "\U0001D11E"
		_, err = b.rules.AddWebfilter(t.Context(), full, nil)
		says(t, "a character that the table cannot hold", err, "character set")
	}
}

// changeWebfilter changes flags and nothing else.
func changeWebfilter(t *testing.T, b *bench) {
	ids := make([]int32, 2)
	for i := range ids {
		id, err := b.rules.AddWebfilter(t.Context(), rule.WebfilterRow{Row: rule.Row{Event: "E", URL: "https://h/1", Enabled: true}}, nil)
		must(t, err)
		ids[i] = id
	}
	untouched := b.filters(t)[1]
	change := func(changed bool, do func(*rule.WebfilterRow)) rule.WebfilterRow {
		t.Helper()
		before := b.filters(t)[0]
		got, err := b.rules.ChangeWebfilter(t.Context(), ids[0], func(r *rule.WebfilterRow) error { do(r); return nil })
		must(t, err)
		want(t, "changed", got, changed)
		rows := b.filters(t)
		want(t, "modified moved on", rows[0].Modified.After(before.Modified), changed)
		want(t, "the other row", rows[1], untouched)
		before.Modified = rows[0].Modified
		want(t, "what is not its own to set", rows[0].Row, before.Row)
		return rows[0]
	}
	full := fullFilter()
	got := change(true, func(r *rule.WebfilterRow) { *r = full }) // the row itself included
	want(t, "flags", got.WebfilterFlags, full.WebfilterFlags)
	want(t, "description", got.Description, full.Description)
	change(false, func(r *rule.WebfilterRow) { *r = full })
	change(false, func(r *rule.WebfilterRow) { r.URL, r.Enabled = "https://h/2", false })
	mustExec(t, b.admin, "UPDATE openedx_webhooks_webfilter SET halt_on_4xx = 2 WHERE id = ?", ids[0])
	change(false, func(*rule.WebfilterRow) {}) // 2 is true as well
	got = change(true, func(r *rule.WebfilterRow) { r.HaltOn4xx, r.RedirectOn5xx = false, "" })
	full.HaltOn4xx, full.RedirectOn5xx = false, ""
	want(t, "flags, some taken away", got.WebfilterFlags, full.WebfilterFlags)

	refused := errors.New("refused")
	before := b.filters(t)
	_, err := b.rules.ChangeWebfilter(t.Context(), ids[0], func(r *rule.WebfilterRow) error { r.HaltOn5xx = false; return refused })
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the error of change", err)
	}
	_, err = b.rules.ChangeWebfilter(t.Context(), ids[0], func(r *rule.WebfilterRow) error {
		r.RedirectOn4xx = "https://h/" + strings.Repeat("s", 255)
		return nil
	})
	if err == nil || strings.Contains(err.Error(), "ssss") {
		t.Errorf("a redirect too long: got %v, want an error without it", err)
	}
	want(t, "the rows", slices.Equal(b.filters(t), before), true)
	gone := rule.Key{Table: rule.Webfilters, ID: ids[1] + 1}
	_, err = b.rules.ChangeWebfilter(t.Context(), gone.ID, func(*rule.WebfilterRow) error { return nil })
	noRule(t, err, gone)
	says(t, "a webfilter that is not there", err, fmt.Sprintf("there is no webfilter rule %d", gone.ID))
}

// mayNotChangeFilters shows that the account of serve has no right on webfilters that it does not need, and is told which right is missing.
func (b *bench) mayNotChangeFilters(t *testing.T) {
	id, err := b.rules.AddWebfilter(t.Context(), fullFilter(), nil)
	must(t, err)
	if _, err := b.store.AddWebfilter(t.Context(), fullFilter(), nil); err == nil {
		t.Error("the account of serve may write webfilters")
	}
	_, err = b.store.ChangeWebfilter(t.Context(), id, func(r *rule.WebfilterRow) error { r.HaltOn4xx = false; return nil })
	says(t, "change with the grants of serve", err, "GRANT SELECT, UPDATE ON openedx_webhooks_webfilter")
}
