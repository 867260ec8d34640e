package admin

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Problem is something in a request that its sender can correct. The operation has changed nothing.
//
// A caller finds one with errors.AsType[*Problem](err), and all of them with Problems. The command
// line renders a Problem as "--field: reason: fix" and an API as an entry of problem+json, with
// Field as the pointer and Reason and Fix as the detail.
type Problem struct {
	// Field names the option as the command line does, without its dashes: "auth-token". It is
	// empty where no single option is wrong.
	Field string
	// Reason says what is wrong. It holds no secret.
	Reason string
	// Fix says what to write instead, or is empty where Reason leaves no doubt.
	//
	// Other options that Reason or Fix name are in backquotes, as in "add `new-id`", so that Spell
	// can write them as each face does. A single word in backquotes is always an option.
	Fix string
	// See is the list in which valid values can be looked up, or empty.
	See List
}

// List is one of the lists that operations return, named for a hint: "events". With a constant it is
// the sample of an event: "events/BADGE_AWARDED".
type List string

// The lists to which hints refer.
const (
	SeeEvents      List = "events"
	SeePresets     List = "presets"
	SeeRules       List = "rules"
	SeeUndecodable List = "undecodable"
)

// Error implements error.
func (p *Problem) Error() string {
	field := p.Field
	if strings.HasPrefix(p.Reason, "`"+strings.TrimLeft(field, "-")+"` ") {
		field = "" // the sentence begins with it
	}
	parts := []string{field, p.Reason, p.Fix}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), ": ")
}

// Problems returns all problems in err, in the order in which they were found. An operation that
// finds several returns them joined by errors.Join. There are none in a failure.
func Problems(err error) (all []*Problem) {
	Walk(err, func(one error) bool {
		problem, ok := one.(*Problem) //nolint:errorlint // Walk unwraps
		if ok {
			all = append(all, problem)
		}
		return ok
	})
	return all
}

// Walk calls visit for the errors in a tree, in the order of their texts. It does not descend below
// one for which visit returns true.
func Walk(err error, visit func(error) bool) {
	if err == nil || visit(err) {
		return
	}
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			Walk(one, visit)
		}
	case interface{ Unwrap() error }:
		Walk(e.Unwrap(), visit)
	}
}

// option matches the name of an option in a text.
var option = regexp.MustCompile("`[a-z][a-z0-9-]*`")

// Spell returns a text of this package with the names of options written as write does.
func Spell(text string, write func(option string) string) string {
	return option.ReplaceAllStringFunc(text, func(quoted string) string { return write(strings.Trim(quoted, "`")) })
}

// NotFoundError says that what an operation was to work on does not exist.
type NotFoundError struct {
	// Reason says what was not found, and why it may be missing.
	Reason string
	// See is the list in which to look, or empty.
	See List
}

// Error implements error.
func (e *NotFoundError) Error() string { return e.Reason }

// RuleStateError says that nothing is sent for a rule as it stands, so that an operation on its
// deliveries would have no effect.
type RuleStateError struct {
	ID     int32
	Status rule.Status // Faulty, Disabled or Foreign
	Fault  string      // what is wrong with a faulty rule
}

// Error implements error. How to change the rule is for each face to add.
func (e *RuleStateError) Error() string {
	if e.Status == rule.Faulty {
		return fmt.Sprintf("rule %d cannot be used: %s", e.ID, e.Fault)
	}
	is := "disabled"
	if e.Status == rule.Foreign {
		is = "not adopted"
	}
	return fmt.Sprintf("rule %d is %s, so nothing is sent for it", e.ID, is)
}
