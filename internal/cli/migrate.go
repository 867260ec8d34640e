package cli

import (
	"context"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

type migrateCommand struct {
	config.Database

	WithPluginTables bool `help:"Also make the plugin's tables, for a database without Django."`
}

// Run migrates the database.
func (c *migrateCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database); err != nil {
		return err
	}
	options, err := app.StoreOptions(&c.Database, s.log)
	if err != nil {
		return err
	}
	done, err := store.Migrate(ctx, options, store.MigrateOptions{WithPluginTables: c.WithPluginTables})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("the schema is at version %d; nothing was to do", done.To)
	if n := len(done.Steps); n > 0 {
		text = fmt.Sprintf("the schema went from version %d to %d in %d steps", done.From, done.To, n)
	}
	if c.WithPluginTables {
		text += "; the plugin's tables are there"
	}
	_, err = fmt.Fprintln(s.Stdout, text)
	return err
}
