package cli

import "github.com/openedx-webhooks/webhook-dispatcher/internal/rule"

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
