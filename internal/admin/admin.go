// Package admin holds the operations of an operator: to list, show and replay deliveries and records
// that could not be decoded, to show samples of events, and to rotate the keys of secrets. The command
// line, the API and the console are faces of these operations.
//
// An operation takes typed values and returns a typed view. A view has the names, the order and the
// values of the JSON document that all faces give out; fields without a JSON name are for text. A
// bulk operation counts first: without Apply it changes nothing and returns what it would do, and
// with Apply it does that and returns what it did. What takes long reports its progress to a function
// of the caller.
//
// What is wrong with a request is a *Problem, what does not exist a *NotFoundError, a rule that is in
// the way a *RuleStateError. Every other error is a failure: a database, a broker or a registry that
// does not answer.
//
// The package knows no flags, commands, exit codes or HTTP, prints nothing, and reads no settings and
// no files. What connects to something is built by the caller and given in Options.
package admin

import (
	"errors"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Options are what operations need. Those that are not required may be left out by a caller that
// never uses the operations named.
type Options struct {
	// Catalogue has the events of the platform. It is required.
	Catalogue *schema.Catalogue
}

// Admin runs operations. It has no state of its own and is safe for concurrent use.
type Admin struct{ o Options }

// New returns an Admin. It connects to nothing.
func New(o Options) (*Admin, error) {
	if o.Catalogue == nil {
		return nil, errors.New("new admin: a catalogue is needed")
	}
	return &Admin{o}, nil
}
