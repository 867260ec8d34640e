package config

import (
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// Problem is one thing that is wrong with one setting.
type Problem struct {
	// Env is the setting's environment name, or the place in a file where no setting is meant.
	Env string
	// Place is file, line and key of a value that the settings file has, "" for any other.
	Place string
	// Value is the value as given, "" where there is none or where it is a secret.
	Value string
	// Text says what is wrong and what to do.
	Text string
}

// String returns the problem in one line: the setting, as environment name and flag or by its place in the settings file, its value, what
// is wrong and the fix.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Place != "":
		b.WriteString(p.Place)
	case strings.HasPrefix(p.Env, ownPrefix) || strings.HasPrefix(p.Env, busPrefix):
		fmt.Fprintf(&b, "%s (--%s)", p.Env, flagName(p.Env))
	default:
		b.WriteString(p.Env)
	}
	if p.Value != "" {
		fmt.Fprintf(&b, " = %q", suggest.Clip(p.Value, maxValue))
	}
	b.WriteString(": ")
	b.WriteString(p.Text)
	return b.String()
}

// maxValue is how many characters of a value a message shows: a whole file may have been given.
const maxValue = 200

// Error is all that is wrong with the settings. Commands end with exit code 2 on it.
type Error struct{ Problems []Problem }

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	if len(e.Problems) == 1 {
		lines = append(lines, "1 problem with the settings:")
	} else {
		lines = append(lines, fmt.Sprintf("%d problems with the settings:", len(e.Problems)))
	}
	for _, p := range e.Problems {
		lines = append(lines, "  "+p.String())
	}
	return strings.Join(lines, "\n")
}

// problems collects; a setting whose value could not be read gets no second problem for being empty.
type problems struct {
	list     []Problem
	seen     map[string]bool
	places   map[string]string // of values that come from the settings file
	noFile   bool              // the settings file was named and cannot be read
	warnings []string          // of what stops nothing
}

func (p *problems) add(env, value, format string, args ...any) {
	if p.seen == nil {
		p.seen = make(map[string]bool)
	}
	p.seen[env] = true
	p.list = append(p.list, Problem{Env: env, Place: p.places[env], Value: value, Text: fmt.Sprintf(format, args...)})
}

// stands notes where the value of a setting stands in the settings file.
func (p *problems) stands(env, place string) {
	if p.places == nil {
		p.places = make(map[string]string)
	}
	p.places[env] = place
}

// missing reports a required setting that was not given. While the settings file cannot be read that is not known.
func (p *problems) missing(env, fix string) {
	if !p.seen[env] && !p.noFile {
		p.add(env, "", "is not set: %s", fix)
	}
}

// warn notes what deserves a word and stops nothing.
func (p *problems) warn(env, format string, args ...any) {
	p.warnings = append(p.warnings, env+" "+fmt.Sprintf(format, args...))
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return &Error{Problems: p.list}
}
