// Package rule holds the rules that say which event goes where: the plugin's webhook rows, compiled into an immutable
// snapshot that is indexed by event type and swapped as a whole.
//
// A failure to load rules is never read as "no rules": the last good snapshot stays. A row that cannot be compiled is
// out by itself, with its fault kept for people to see. How rows are stored is not known here.
package rule

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Row is a row of openedx_webhooks_webhook as it is stored.
type Row struct {
	ID       int32
	Created  time.Time
	Modified time.Time
	Event    string // signal constant, any case
	URL      string
	Enabled  bool
	Form     bool // use_www_form_encoding
}

// Rule is a row that can be acted on. It is immutable.
type Rule struct {
	Row
	Kind delivery.Kind
	// EventType is the dotted type that the rule wants.
	EventType string
	// Target is scheme and host of the URL: all of it that may stand in a log.
	Target string
	// Format is how bodies are encoded.
	Format delivery.Format
}

// Lane returns the queue of the rule's deliveries.
func (r *Rule) Lane() delivery.Lane { return delivery.Lane{Kind: r.Kind, RuleID: r.ID} }
