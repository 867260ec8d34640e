package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// newAdmin returns the operations on what o has, to which it adds the catalogue.
func newAdmin(o admin.Options) (*admin.Admin, error) {
	var err error
	if o.Catalogue, err = schema.LoadCatalogue(); err != nil {
		return nil, err
	}
	return admin.New(o)
}

// withAdmin runs use with the operations on an open database and what else o has.
func (s *session) withAdmin(c *config.Database, o admin.Options, use func(*admin.Admin) error) error {
	opened, err := app.OpenStore(c, s.log)
	if err != nil {
		return err
	}
	o.Store = opened
	a, err := newAdmin(o)
	if err == nil {
		err = use(a)
	}
	return errors.Join(err, opened.Close())
}

// withDatabase reads the settings of a database and runs use with the operations on it.
func (s *session) withDatabase(ctx context.Context, c *config.Database, use func(*admin.Admin) error) error {
	if err := s.settings(ctx, c); err != nil {
		return err
	}
	return s.withAdmin(c, admin.Options{}, use)
}

// withTopics is withRules for operations that read topics.
func (s *session) withTopics(ctx context.Context, rules *ruleSettings, bus *config.Bus, use func(*admin.Admin) error) error {
	if err := s.settings(ctx, append(rules.groups(), bus)...); err != nil {
		return err
	}
	compiler, err := rules.compiler()
	if err != nil {
		return err
	}
	topics, err := app.NewTopics(bus, compiler.Catalogue)
	if err != nil {
		return usageError{err} // nothing has been connected to: a setting is wrong
	}
	defer topics.Close()
	o := admin.Options{Compiler: compiler, Log: topics.Log, Decoder: topics.Decoder, AllTopics: bus.AllTopics()}
	return s.withAdmin(&rules.Database, o, use)
}

// explain returns the text of an error, with what operations say put into the words of the command
// line: options as flags, and commands to run or to look at.
func explain(err error) string {
	text, at := err.Error(), 0
	admin.Walk(err, func(one error) bool {
		words := inWords(one)
		old := one.Error()
		i := strings.Index(text[at:], old)
		if words == "" || i < 0 {
			return false
		}
		text = text[:at+i] + words + text[at+i+len(old):]
		at += i + len(words)
		return true
	})
	return text
}

// inWords returns the text of an error that operations or the store leave to the command line, empty
// for any other.
func inWords(err error) string {
	switch e := err.(type) { //nolint:errorlint // Walk unwraps
	case *admin.Problem:
		flagged := *e
		if e.Field != "" {
			flagged.Field = asFlag(e.Field)
		}
		return spell(flagged.Error()) + see(e.See)
	case *admin.NotFoundError:
		return e.Error() + see(e.See)
	case *admin.RuleStateError:
		return e.Error() + remedy(e)
	case *store.NoRuleError:
		return e.Error() + "; see rules list" + e.Key.Table.Flag()
	case *store.ContestedError:
		return fmt.Sprintf("%s: run %s, or %s, first", e, command("adopt", e.Key, ""), command("release", e.Key, ""))
	}
	return ""
}

// remedy says how to change a rule for which nothing is sent.
func remedy(e *admin.RuleStateError) string {
	switch e.Status {
	case rule.Faulty:
		return "; correct it, then repeat the command"
	case rule.Foreign:
		return fmt.Sprintf(": rules adopt %d, then repeat the command", e.ID)
	default:
		return fmt.Sprintf(": rules set %d --enable, then repeat the command", e.ID)
	}
}

func asFlag(option string) string { return "--" + option }

// spell writes the options that a text of package admin names as flags.
func spell(text string) string { return admin.Spell(text, asFlag) }

// see names the command that prints what an operation refers to. Most lists are called as the group of
// commands is.
func see(list admin.List) string {
	constant, sample := strings.CutPrefix(string(list), string(admin.SeeEvents)+"/")
	switch {
	case list == "":
		return ""
	case sample:
		return "; see events show " + constant
	case list == admin.SeePresets:
		return "; see rules presets"
	}
	return fmt.Sprintf("; see %s list", list)
}

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
