package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

func needed(t *testing.T) int64 {
	t.Helper()
	version, err := store.SchemaVersion()
	must(t, err)
	atLeast(t, "version", version, 7)
	return version
}

// describe returns the definition of a table's columns, in order.
func (b *bench) describe(t *testing.T, table string) string {
	t.Helper()
	rows, err := b.admin.QueryContext(t.Context(), `SELECT column_name, column_type, is_nullable, COALESCE(column_default, '-')
  FROM information_schema.columns
  WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`, b.database, table)
	must(t, err)
	defer rows.Close() //nolint:errcheck // Err is looked at.
	var columns []string
	for rows.Next() {
		var name, kind, null, preset string
		must(t, rows.Scan(&name, &kind, &null, &preset))
		kind = strings.ReplaceAll(strings.ReplaceAll(kind, "int(11)", "int"), "tinyint(1)", "bool")
		columns = append(columns, strings.ToLower(fmt.Sprintf("%s %s %s %s", name, kind, null, preset)))
	}
	must(t, rows.Err())
	return strings.Join(columns, "\n")
}

func migrateAgain(t *testing.T, b *bench) {
	must(t, b.store.CheckSchema(t.Context()))
	id, err := b.rules.AddWebhook(t.Context(), rule.Row{Event: "E", URL: "u"}, nil)
	must(t, err)
	b.insert(t, pending(1, id))
	before := b.describe(t, "webhook_dispatcher_delivery")
	done := b.migrate(t, store.MigrateOptions{WithPluginTables: true})
	want(t, "steps", len(done.Steps), 0)
	want(t, "from", done.From, needed(t))
	want(t, "to", done.To, needed(t))
	want(t, "delivery table", b.describe(t, "webhook_dispatcher_delivery"), before)
	want(t, "rows", b.count(t, "1 = 1"), 1)
	want(t, "rules", one[int](t, b.admin, "SELECT COUNT(*) FROM openedx_webhooks_webhook"), 1)
}

func migrateAtOnce(t *testing.T, b *bench) {
	fresh := newBench(t, b.target, false)
	results := make([]store.Migrated, 5)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			done, err := store.Migrate(t.Context(), store.Options{DSN: fresh.adminDSN}, store.MigrateOptions{WithPluginTables: true})
			if err != nil {
				t.Errorf("Migrate: %v", err)
			}
			results[i] = done
		})
	}
	wg.Wait()
	steps := 0
	for _, done := range results {
		steps += len(done.Steps)
		want(t, "to", done.To, needed(t))
	}
	want(t, "steps of all", steps, int(needed(t)))
	must(t, fresh.store.CheckSchema(t.Context()))
}

// migrateAfterCrash leaves behind what a crash at the worst moments would.
func migrateAfterCrash(t *testing.T, b *bench) {
	// Between a step and its entry.
	mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_migration WHERE version_id >= 3")
	mustExec(t, b.admin, "DROP TABLE webhook_dispatcher_topic")
	b.insert(t, pending(1, 1))
	done := b.migrate(t, store.MigrateOptions{})
	want(t, "from", done.From, 2)
	want(t, "steps", len(done.Steps), int(needed(t))-2)
	want(t, "rows", b.count(t, "1 = 1"), 1)
	must(t, openStore(t, b.adminDSN, nil).CheckSchema(t.Context()))
	// Between the version table and its first entry.
	mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_migration")
	want(t, "steps from nothing", len(b.migrate(t, store.MigrateOptions{}).Steps), int(needed(t)))
}

func schemaVersions(t *testing.T, b *bench) {
	fails := func(s *store.Store, parts ...string) {
		t.Helper()
		err := s.CheckSchema(t.Context())
		if err == nil {
			t.Fatal("CheckSchema: no error")
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("CheckSchema: %q does not say %q", err, part)
			}
		}
	}
	must(t, b.store.CheckSchema(t.Context()))
	mustExec(t, b.admin, "DELETE FROM webhook_dispatcher_migration WHERE version_id > 3")
	fails(b.store, fmt.Sprintf("database schema is at version 3, this program needs %d: run `webhook-dispatcher migrate`", needed(t)))
	b.migrate(t, store.MigrateOptions{})
	must(t, b.store.CheckSchema(t.Context()))
	// A newer program has been here.
	mustExec(t, b.admin, "INSERT INTO webhook_dispatcher_migration (version_id, is_applied) VALUES (?, TRUE)", needed(t)+7)
	must(t, b.store.CheckSchema(t.Context()))
	done := b.migrate(t, store.MigrateOptions{})
	want(t, "from", done.From, needed(t)+7)
	want(t, "to", done.To, needed(t)+7)
	want(t, "steps", len(done.Steps), 0)

	fresh := newBench(t, b.target, false)
	fails(fresh.store, "has no tables of webhook-dispatcher yet", "run `webhook-dispatcher migrate`")
	fresh.migrate(t, store.MigrateOptions{})
	fails(fresh.store, "openedx_webhooks_webhook", "plugin")
	mustExec(t, fresh.admin, "CREATE TABLE openedx_webhooks_webhook (id INT PRIMARY KEY, created DATETIME(6), modified DATETIME(6))")
	if b.target.Real { // the embedded database's error has no number of its own
		fails(fresh.store, "openedx_webhooks_webhook", "event", "update the plugin")
	}
	// The table of webfilters came later than that of webhooks, and some of its columns later still.
	late := newBench(t, b.target, true)
	if b.target.Real {
		mustExec(t, late.admin, "ALTER TABLE openedx_webhooks_webfilter DROP COLUMN disable_filtering")
		fails(late.store, "openedx_webhooks_webfilter", "disable_filtering", "update the plugin")
	}
	mustExec(t, late.admin, "DROP TABLE openedx_webhooks_webfilter")
	fails(openStore(t, late.adminDSN, nil), "openedx_webhooks_webfilter", "plugin")
}

func pluginTables(t *testing.T, b *bench) {
	for table, columns := range map[string]string{
		"openedx_webhooks_webhook": `id int no -
created datetime(6) no -
modified datetime(6) no -
event varchar(50) no -
webhook_url varchar(255) no -
enabled bool no -
use_www_form_encoding bool no -`,
		"openedx_webhooks_webfilter": `id int no -
created datetime(6) no -
modified datetime(6) no -
description longtext no -
event varchar(50) no -
webhook_url varchar(255) no -
enabled bool no -
disable_halt bool no -
halt_on_4xx bool no -
redirect_on_4xx varchar(255) no -
halt_on_5xx bool no -
redirect_on_5xx varchar(255) no -
halt_on_request_exception bool no -
redirect_on_request_exception varchar(255) no -
disable_filtering bool no -
use_www_form_encoding bool no -`,
	} {
		want(t, "columns of "+table, b.describe(t, table), columns)
	}
	// Tables that are there are left as they are, other columns included.
	mustExec(t, b.admin, "ALTER TABLE openedx_webhooks_webhook ADD COLUMN later INT NOT NULL DEFAULT 3")
	id, err := b.rules.AddWebhook(t.Context(), rule.Row{Event: "E", URL: "u", Enabled: true}, nil)
	must(t, err)
	before := b.describe(t, "openedx_webhooks_webhook")
	b.migrate(t, store.MigrateOptions{WithPluginTables: true})
	want(t, "table with a later column", b.describe(t, "openedx_webhooks_webhook"), before)
	must(t, b.store.CheckSchema(t.Context()))
	found, err := webhooks(t, b.store)
	must(t, err)
	want(t, "rules", len(found), 1)
	want(t, "rule", found[0].ID, id)
}

func besideDjango(t *testing.T, b *bench) {
	fresh := newBench(t, b.target, false)
	mustExec(t, fresh.admin, "CREATE TABLE django_migrations (id INT PRIMARY KEY)")
	_, err := store.Migrate(t.Context(), store.Options{DSN: fresh.adminDSN}, store.MigrateOptions{WithPluginTables: true})
	if err == nil || !strings.Contains(err.Error(), "django_migrations") {
		t.Errorf("Migrate beside Django: got %v, want it refused", err)
	}
	want(t, "tables", one[int](t, fresh.admin, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ?", fresh.database), 1)
	done := fresh.migrate(t, store.MigrateOptions{})
	want(t, "to", done.To, needed(t))
}

// grants shows that the account of serve has no right that it does not need.
func grants(t *testing.T, b *bench) {
	must(t, b.store.CheckSchema(t.Context()))
	if _, err := b.store.AddWebhook(t.Context(), rule.Row{Event: "E", URL: "u"}, nil); err == nil {
		t.Error("the account of serve may write rules")
	}
	if _, err := store.Migrate(t.Context(), store.Options{DSN: b.serveDSN}, store.MigrateOptions{}); err == nil {
		t.Error("the account of serve may migrate")
	} else if !strings.Contains(err.Error(), "CREATE") {
		t.Errorf("Migrate as serve: %q does not say which right is missing", err)
	}
	ok, err := b.store.RuleExists(t.Context(), delivery.Lane{Kind: delivery.KindWebhook, RuleID: 1})
	must(t, err)
	want(t, "rule exists", ok, false)
	mustExec(t, b.admin, fmt.Sprintf("REVOKE SELECT ON %s.openedx_webhooks_webhook FROM '%s_serve'@'%%'", b.database, b.database))
	if err := openStore(t, b.serveDSN, nil).CheckSchema(t.Context()); err == nil || !strings.Contains(err.Error(), "GRANT SELECT") {
		t.Errorf("CheckSchema without SELECT: got %v, want the GRANT that is missing", err)
	}
	b.mayNotChangeFilters(t)
}
