package config

import (
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// Problem is one problem with a setting.
type Problem struct {
	Env   string // the setting's environment name, or a position in a file
	Place string // file, line and key of a value from the settings file, else ""
	Value string // as given; "" for a secret
	Text  string // what is wrong and what to do
}

// String returns one line: the setting (its environment name and flag, or its place in the settings
// file), its value, what is wrong and the fix.
func (p Problem) String() string {
	what := p.Env
	switch {
	case p.Place != "":
		what = p.Place
	case strings.HasPrefix(p.Env, ownPrefix) || strings.HasPrefix(p.Env, busPrefix):
		what = fmt.Sprintf("%s (--%s)", p.Env, flagName(p.Env))
	}
	if p.Value != "" {
		what += fmt.Sprintf(" = %q", suggest.Clip(p.Value, maxValue))
	}
	return what + ": " + p.Text
}

// maxValue is the length at which values are cut in messages: a whole file may have been given.
const maxValue = 200

// Error is all problems with the settings. Commands exit with code 2 on it.
type Error struct{ Problems []Problem }

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := []string{"1 problem with the settings:"}
	if len(e.Problems) != 1 {
		lines[0] = fmt.Sprintf("%d problems with the settings:", len(e.Problems))
	}
	for _, p := range e.Problems {
		lines = append(lines, "  "+p.String())
	}
	return strings.Join(lines, "\n")
}

// problems collects problems. A setting whose value cannot be read gets no second problem for being
// empty.
type problems struct {
	list     []Problem
	seen     map[string]bool
	places   map[string]string // of values that come from the settings file
	noFile   bool              // the settings file cannot be read
	warnings []string
}

func (p *problems) add(env, value, format string, args ...any) {
	p.seen[env] = true
	p.list = append(p.list, Problem{Env: env, Place: p.places[env], Value: value, Text: fmt.Sprintf(format, args...)})
}

// missing reports a required setting that was not given, unless the settings file, which might have
// it, cannot be read.
func (p *problems) missing(env, fix string) {
	if !p.seen[env] && !p.noFile {
		p.add(env, "", "is not set: %s", fix)
	}
}

// warn records a problem that stops nothing.
func (p *problems) warn(env, format string, args ...any) {
	p.warnings = append(p.warnings, env+" "+fmt.Sprintf(format, args...))
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return &Error{Problems: p.list}
}
