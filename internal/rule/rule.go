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

// same tells whether two rows say the same; times are compared as moments.
func (r *Row) same(other *Row) bool {
	a, b := *r, *other
	if !a.Created.Equal(b.Created) || !a.Modified.Equal(b.Modified) {
		return false
	}
	a.Created, a.Modified, b.Created, b.Modified = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return a == b
}

// Rule is a row that can be acted on. It is immutable. Its URL has been checked, and stands without the spaces before it that
// people paste.
type Rule struct {
	Row
	Kind delivery.Kind
	// EventType is the dotted type that the rule wants.
	EventType string
	// Target is scheme and host of the URL: all of it that may stand in a log.
	Target string
	// Format is how bodies are encoded.
	Format delivery.Format
	// Limits are the rule's own.
	Limits Limits
}

// Limits bound what is sent to one rule's endpoint. Zero values stand for the settings' defaults.
type Limits struct {
	// Concurrency is how many requests may be under way.
	Concurrency int
	// Rate is how many requests may begin in a second.
	Rate float64
}

// Option is a row of webhook_dispatcher_rule_option: what the plugin's table has no column for.
type Option struct {
	Kind   delivery.Kind
	RuleID int32
	// RuleCreated is the created of the rule that the option was made for. Ids are used again; an option of another rule is ignored.
	RuleCreated time.Time
	// PausedAt is since when the rule is paused; zero: it is not.
	PausedAt time.Time
}

// same tells whether two options, of which either may be missing, say the same; times are compared as moments.
func (o *Option) same(other *Option) bool {
	if o == nil || other == nil {
		return o == other
	}
	a, b := *o, *other
	if !a.RuleCreated.Equal(b.RuleCreated) || !a.PausedAt.Equal(b.PausedAt) {
		return false
	}
	a.RuleCreated, a.PausedAt, b.RuleCreated, b.PausedAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return a == b
}

// Lane returns the queue of the rule's deliveries.
func (r *Rule) Lane() delivery.Lane { return delivery.Lane{Kind: r.Kind, RuleID: r.ID} }

// DoubleSendWarning is to be logged once when rules come from the enabled rows: the plugin inside the LMS reads the same rows.
const DoubleSendWarning = "the enabled rows are the rules, and the openedx-webhooks plugin inside LMS and CMS sends those same rows " +
	"by itself: while it is active there, receivers get every event twice. To send once, uninstall the plugin from LMS and CMS " +
	"and keep its tables (the rules commands make and show rows), or leave enabled only rows whose events the plugin does not handle"
