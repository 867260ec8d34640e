package cli

import (
	"context"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

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

// readEntry reads one rule, with what made it of its row.
func (s *session) readEntry(ctx context.Context, settings *ruleSettings, key rule.Key) (e *rule.Entry, compiler *rule.Compiler, err error) {
	if compiler, err = settings.compiler(); err != nil {
		return nil, nil, err
	}
	err = s.withStore(&settings.Database, func(st *store.Store) error {
		tables, err := st.Rules(ctx)
		if err != nil {
			return err
		}
		if e = rule.NewSnapshot(tables, compiler).Entry(key); e == nil {
			return &store.NoRuleError{Key: key}
		}
		return nil
	})
	return e, compiler, err
}
