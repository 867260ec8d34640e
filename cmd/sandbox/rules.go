package main

import (
	"context"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// sampleRule is a row of the webhook table and the behaviour of its endpoint.
type sampleRule struct {
	name    string // the path of its URL
	event   string // signal constant
	form    bool
	refuses int  // how often the endpoint refuses each delivery before it accepts it
	off     bool // disabled

	id        int32
	eventType string
}

func sampleRules() []*sampleRule {
	return []*sampleRule{
		{name: "crm", event: "COURSE_ENROLLMENT_CREATED"},
		{name: "mailing-list", event: "COURSE_ENROLLMENT_CREATED", form: true},
		{name: "accounts", event: "STUDENT_REGISTRATION_COMPLETED"},
		{name: "badges", event: "CERTIFICATE_CREATED", refuses: 2},
		{name: "catalogue", event: "COURSE_CATALOG_INFO_CHANGED"},
		{name: "search", event: "XBLOCK_PUBLISHED"},
		{name: "bookkeeping", event: "LEDGER_TRANSACTION_COMMITTED"},
		{name: "retired", event: "COURSE_ENROLLMENT_CREATED", off: true},
	}
}

// addRules creates the tables and rows, like `migrate --with-plugin-tables` and `rules add`.
func addRules(ctx context.Context, dsn, receiver string, rules []*sampleRule) error {
	options := store.Options{DSN: dsn}
	if _, err := store.Migrate(ctx, options, store.MigrateOptions{WithPluginTables: true}); err != nil {
		return err
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}
	db, err := store.Open(options)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	for _, r := range rules {
		signal, ok := catalogue.ByConstant(r.event)
		if !ok {
			return fmt.Errorf("rule %s: the catalogue has no event %s", r.name, r.event)
		}
		r.eventType = signal.Type
		r.id, err = db.AddWebhook(ctx, rule.Row{Event: r.event, URL: receiver + "/" + r.name, Enabled: !r.off, Form: r.form}, nil)
		if err != nil {
			return fmt.Errorf("add rule %s: %w", r.name, err)
		}
	}
	return nil
}
