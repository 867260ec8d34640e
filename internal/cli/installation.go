package cli

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// serveCommand takes every setting. Those of the log stand at the top of the grammar; its own copy is filled from there.
type serveCommand struct {
	config.Bus
	config.Database
	config.Rules
	config.Secrets
	config.Sending
	config.Dispatch
	config.Retention
	config.HTTP
	config.Filters
}

// Run checks all settings and runs the daemon until a signal ends ctx.
func (c *serveCommand) Run(ctx context.Context, s *session) error {
	cfg := &config.Config{
		Log: *s.level, Bus: c.Bus, Database: c.Database, Rules: c.Rules, Secrets: c.Secrets, Sending: c.Sending,
		Dispatch: c.Dispatch, Retention: c.Retention, HTTP: c.HTTP, Filters: c.Filters,
	}
	if err := s.settings(ctx, cfg); err != nil {
		return err
	}
	s.log.LogAttrs(ctx, slog.LevelDebug, "settings", cfg.Redacted()...)
	if cfg.RulesSource == "enabled" {
		s.log.WarnContext(ctx, rule.DoubleSendWarning) //nolint:sloglint // it is a constant
	}
	if s.Serve != nil {
		return s.Serve(ctx, cfg, s.log)
	}
	b := s.build()
	a, err := app.New(cfg, app.Options{Version: b.Version, Revision: b.Revision, Logger: s.log})
	if err != nil {
		return usageError{err} // New connects to nothing: what fails is a setting
	}
	return a.Run(ctx)
}

type versionCommand struct{ jsonFlag }

// buildInfo says which program this is.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
}

// build returns what the linker and the Go command left in the binary.
func (p *Process) build() buildInfo {
	b := buildInfo{Version: p.Version, Revision: "unknown", Go: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if ok {
		b.Go = info.GoVersion
		if b.Version == "" {
			b.Version = strings.TrimPrefix(info.Main.Version, "v")
		}
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				b.Revision = setting.Value
			}
		}
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	return b
}

// Run prints the version. It reads no settings, so it works with wrong ones.
func (c *versionCommand) Run(s *session) error {
	b := s.build()
	if c.JSON {
		return s.printJSON(b)
	}
	_, err := fmt.Fprintf(s.Stdout, "webhook-dispatcher %s (revision %s, %s)\n", b.Version, b.Revision, b.Go)
	return err
}

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
