package cli

import (
	"context"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
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

// adopted reports whether only adopted rows are rules.
func (r *ruleSettings) adopted() bool { return r.RulesSource == "adopted" }

// compiler builds what makes rules of rows as the daemon does.
func (r *ruleSettings) compiler() (*rule.Compiler, error) {
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return nil, err
	}
	return app.NewCompiler(&r.Rules, &r.Secrets, r.SigningScheme, catalogue)
}

// withRules reads the settings of rules and runs use with the operations on rules.
func (s *session) withRules(ctx context.Context, settings *ruleSettings, use func(*admin.Admin) error) error {
	if err := s.settings(ctx, settings.groups()...); err != nil {
		return err
	}
	compiler, err := settings.compiler()
	if err != nil {
		return err
	}
	keys, err := rule.ParseKeys(settings.SecretsKey.Reveal())
	if err != nil {
		return err
	}
	return s.withAdmin(&settings.Database, admin.Options{Compiler: compiler, Keys: keys, RulesRefresh: settings.RulesRefresh}, use)
}

// kindFlag chooses the plugin's table.
type kindFlag struct {
	Kind string `enum:"webhook,webfilter" default:"webhook" help:"Kind of rule: webhook or webfilter."`
}

func (k kindFlag) table() rule.Table { return rule.ParseTable(k.Kind) }

func (k kindFlag) filters() bool { return k.table() == rule.Webfilters }

func (k kindFlag) key(id int32) rule.Key { return rule.Key{Table: k.table(), ID: id} }

// command returns a command for a rule, such as "rules set 7 --resume".
func command(name string, key rule.Key, flags string) string {
	return "rules " + name + " " + key.Arguments() + flags
}
