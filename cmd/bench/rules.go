package main

import (
	"context"
	"errors"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

const wanted = "COURSE_ENROLLMENT_CREATED"

// addRules creates the tables and n enabled rules, one of which matches the events.
func addRules(ctx context.Context, dsn, receiver string, n int) (err error) {
	options := store.Options{DSN: dsn}
	if _, err := store.Migrate(ctx, options, store.MigrateOptions{WithPluginTables: true}); err != nil {
		return err
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}
	var others []string
	for _, signal := range catalogue.Signals() {
		if signal.OnBus && signal.Constant != wanted && signal.Constant != "" {
			others = append(others, signal.Constant)
		}
	}
	db, err := store.Open(options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for i := range n {
		event := wanted
		if i > 0 {
			event = others[i%len(others)]
		}
		if _, err := db.AddWebhook(ctx, rule.Row{Event: event, URL: receiver + hookPath, Enabled: true}, nil); err != nil {
			return err
		}
	}
	return nil
}
