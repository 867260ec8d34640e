package cli

import (
	"context"
	"errors"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// ruleSettings are the settings that say what the rules are. They must be those of the daemons.
type ruleSettings struct {
	config.Database
	config.Rules
	config.Secrets
	schemeSetting
}

// schemeSetting is one of config.Sending, for commands that sign nothing: what the scheme signs for all rules may be at odds with one.
type schemeSetting struct {
	SigningScheme string `setting:"WEBHOOK_DISPATCHER_SIGNING_SCHEME" choice:"none,standard,sig-hmac-sha256" default:"none"`
}

func (r *ruleSettings) groups() []config.Group {
	return []config.Group{&r.Database, &r.Rules, &r.Secrets}
}

// adopted tells whether only adopted rows are rules.
func (r *ruleSettings) adopted() bool { return r.RulesSource == "adopted" }

// sealing tells whether secrets can be sealed.
func (r *ruleSettings) sealing() bool { return r.SecretsKey != "" }

// compiler builds what makes rules of rows as the daemon does.
func (r *ruleSettings) compiler() (*rule.Compiler, error) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return nil, err
	}
	return app.NewCompiler(&r.Rules, &r.Secrets, r.SigningScheme, catalogue)
}

// withStore runs use on an open store.
func (s *session) withStore(c *config.Database, use func(*store.Store) error) error {
	opened, err := app.OpenStore(c, s.log)
	if err != nil {
		return err
	}
	return errors.Join(use(opened), opened.Close())
}

// ruleSet is all rules with what made them of their rows.
type ruleSet struct {
	*rule.Snapshot
	compiler *rule.Compiler
}

// readRules reads and compiles all rows.
func readRules(ctx context.Context, st *store.Store, settings *ruleSettings) (*ruleSet, error) {
	compiler, err := settings.compiler()
	if err != nil {
		return nil, err
	}
	table, err := st.Rules(ctx)
	if err != nil {
		return nil, err
	}
	return &ruleSet{Snapshot: rule.NewSnapshot(table, compiler), compiler: compiler}, nil
}

// rules reads and compiles all rows.
func (s *session) rules(ctx context.Context, settings *ruleSettings) (read *ruleSet, err error) {
	err = s.withStore(&settings.Database, func(st *store.Store) error {
		read, err = readRules(ctx, st, settings)
		return err
	})
	return read, err
}
