package cli

import (
	"context"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
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
	done, err := store.Migrate(ctx, options, store.MigrateOptions{WithPluginTables: c.WithPluginTables, Logger: s.log})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("the schema is at version %d; nothing was to do", done.To)
	if n := len(done.Steps); n > 0 {
		text = fmt.Sprintf("the schema went from version %d to %d in %d steps", done.From, done.To, n)
	}
	if done.PluginTables {
		text += "; the plugin's tables are there"
	}
	_, err = fmt.Fprintln(s.Stdout, text)
	return err
}

type rotateCommand struct {
	config.Database
	config.Secrets
}

// Run seals the secrets of all rules with the first key.
func (c *rotateCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database, &c.Secrets); err != nil {
		return err
	}
	keys, err := rule.ParseKeys(c.SecretsKey.Reveal())
	if err != nil {
		return err
	}
	return s.withAdmin(&c.Database, admin.Options{Keys: keys}, func(a *admin.Admin) error {
		view, err := a.RotateKeys(ctx)
		if view == nil {
			return err
		}
		fmt.Fprintf(s.Stdout, "the secrets of %s sealed again, with the key %s\n", counted(view.Rules, "rule were", "rules were"), view.KeyID)
		if err != nil {
			return fmt.Errorf("some secrets cannot be opened and stay as they are: keep their key then, wherever it is set: %w", err)
		}
		_, err = fmt.Fprintf(s.Stdout, "all secrets are sealed with the key %s: other keys can be removed from WEBHOOK_DISPATCHER_SECRETS_KEY "+
			"wherever it is set\n", view.KeyID)
		return err
	})
}
