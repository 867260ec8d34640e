package cli

import (
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
	return s.withStore(c, func(st *store.Store) error {
		o.Store = st
		a, err := newAdmin(o)
		if err != nil {
			return err
		}
		return use(a)
	})
}

// withTopics is withAdmin for operations that use rules and read topics.
func (s *session) withTopics(rules *ruleSettings, bus *config.Bus, use func(*admin.Admin) error) error {
	compiler, err := rules.compiler()
	if err != nil {
		return err
	}
	topics, err := app.NewTopics(bus, compiler.Catalogue)
	if err != nil {
		return usageError{err} // nothing has been connected to: a setting is wrong
	}
	defer topics.Close()
	return s.withAdmin(&rules.Database, admin.Options{
		Compiler: compiler, Log: topics.Log, Decoder: topics.Decoder, AllTopics: bus.AllTopics(),
	}, use)
}

// seeCommands are the commands that print the lists to which operations refer.
var seeCommands = map[admin.List]string{
	admin.SeeEvents:      "events list",
	admin.SeeRules:       "rules list",
	admin.SeeUndecodable: "undecodable list",
}

// explain returns the text of an error, with what operations say put into the words of the command
// line: options as flags, and lists as the commands that print them.
func explain(err error) string {
	text := err.Error()
	for _, p := range admin.Problems(err) {
		flagged := *p
		if p.Field != "" {
			flagged.Field = asFlag(p.Field)
		}
		text = strings.Replace(text, p.Error(), spell(flagged.Error())+see(p.See), 1)
	}
	if missing, ok := errors.AsType[*admin.NotFoundError](err); ok {
		text = strings.Replace(text, missing.Error(), missing.Error()+see(missing.See), 1)
	}
	if state, ok := errors.AsType[*admin.RuleStateError](err); ok {
		text = strings.Replace(text, state.Error(), state.Error()+remedy(state), 1)
	}
	return text
}

// remedy says how to change a rule for which nothing is sent.
func remedy(e *admin.RuleStateError) string {
	switch e.Status {
	case rule.Disabled:
		return fmt.Sprintf(": rules set %d --enable, then repeat the command", e.ID)
	case rule.Foreign:
		return fmt.Sprintf(": rules adopt %d, then repeat the command", e.ID)
	}
	return "; correct it, then repeat the command"
}

func asFlag(option string) string { return "--" + option }

// spell writes the options that a text of package admin names as flags.
func spell(text string) string { return admin.Spell(text, asFlag) }

func see(list admin.List) string {
	if command := seeCommands[list]; command != "" {
		return "; see " + command
	}
	return ""
}

// wrongUsage reports whether an error is about how a command was called.
func wrongUsage(err error) bool {
	var usage usageError
	var settings *config.Error
	return errors.As(err, &usage) || errors.As(err, &settings) || len(admin.Problems(err)) > 0
}
