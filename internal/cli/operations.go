package cli

import (
	"errors"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
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

// seeCommands are the commands that print the lists to which operations refer.
var seeCommands = map[admin.List]string{
	admin.SeeEvents:      "events list",
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
	return text
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
