package cli

import (
	"context"
	"log/slog"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
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
	return s.serve(ctx, cfg)
}

// serve is the one place where the daemon itself is called.
func (s *session) serve(ctx context.Context, cfg *config.Config) error {
	b := s.build()
	a, err := app.New(cfg, app.Options{Version: b.Version, Revision: b.Revision, Logger: s.log})
	if err != nil {
		return usageError{err} // New connects to nothing: what fails is a setting
	}
	return a.Run(ctx)
}
