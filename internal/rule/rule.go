// Package rule holds the rules that say which event goes where: the plugin's webhook rows, compiled into an immutable
// snapshot that is indexed by event type and swapped as a whole.
//
// A failure to load rules is never read as "no rules": the last good snapshot stays. A row that cannot be compiled is
// out by itself, with its fault kept for people to see. One whose options cannot be read or used, or whose URL was changed under its
// secrets, is held: its events are kept, and nothing is sent.
//
// Where only adopted rows are rules, the plugin inside the LMS sends the others, and rows move between the two while events come. So
// that none is lost, an event of a type that some row is enabled for must be matched against a reading that began after it: see
// Refresher.Fresh. So that few come twice, a rule takes events of the times in which it was the dispatcher's: see Rule.Takes.
//
// How rows are stored and switched is not known here.
package rule

import (
	"crypto/sha256"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
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

// Same reports whether two rows say the same; times are compared as moments.
func (r *Row) Same(other *Row) bool {
	a, b := *r, *other
	if !a.Created.Equal(b.Created) || !a.Modified.Equal(b.Modified) {
		return false
	}
	a.Created, a.Modified, b.Created, b.Modified = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return a == b
}

// Rule is a row that can be acted on, with its options. It is immutable. Its URL has been checked, and stands without the spaces before
// it that people paste.
type Rule struct {
	Row
	// Kind is that of the rule's deliveries.
	Kind delivery.Kind
	// EventType is the dotted type that the rule wants.
	EventType string
	// Target is scheme and host of the URL: all of it that may stand in a log.
	Target string
	// Format is how bodies are encoded.
	Format delivery.Format
	// Shape is how bodies are arranged.
	Shape payload.Shape
	// Filter says of an event whether the rule fires; nil: it does.
	Filter *expression.Program
	// Transform makes the body, or its data; nil: the event's own.
	Transform *expression.Program
	// Resting is set while the rule is paused because its expressions fail: its events are kept as they are, and nothing is spent on them.
	Resting bool
	// Unread is set where the options could not be read: what is sent of an event is not known now, so the event itself is kept.
	Unread bool
	// Limits are the rule's own.
	Limits Limits
	// Access is what requests carry beside the body; nil: nothing of the rule's own.
	Access *Access

	periods []OwnershipPeriod // none: all times
}

// mostDelay is how much later than its event a record may have been made, an LMS whose broker was away for a while included.
const mostDelay = time.Hour

// Takes reports whether the rule is for an event of this time: one that was emitted while it was the dispatcher's, where that matters.
// recorded is the time of the event's record, zero where that is not known.
//
// The platform stamps some events with another moment than that of their emission, such as the last edit of a course that is published
// again, so the record's time counts as well. Where the two leave a choice the event is taken: twice is better than never.
func (r *Rule) Takes(at, recorded time.Time) bool {
	if len(r.periods) == 0 {
		return true
	}
	earliest, latest := at, at
	if recorded.After(at) {
		latest = recorded
		if recorded.Sub(at) > mostDelay { // then at is no time of an emission
			earliest = recorded
		}
	}
	for _, p := range r.periods {
		if !latest.Before(p.From) && (p.Until.IsZero() || earliest.Before(p.Until)) {
			return true
		}
	}
	return false
}

// Always returns the rule for events of all times: for who asks for what was, or should have been, sent before.
func (r *Rule) Always() *Rule {
	if len(r.periods) == 0 {
		return r
	}
	all := *r
	all.periods = nil
	return &all
}

// Limits bound what is sent to one rule's endpoint. Zero values stand for the settings' defaults.
type Limits struct {
	// Concurrency is how many requests may be under way.
	Concurrency int
	// Rate is how many requests may begin in a second.
	Rate float64
	// Timeout bounds the whole exchange.
	Timeout time.Duration
	// RetrySchedule has a delay for each retry. It must not be changed.
	RetrySchedule []time.Duration
}

// Option is a row of webhook_dispatcher_rule_option: what the plugin's table has no column for.
type Option struct {
	// Key is the rule's.
	Key Key
	// RuleCreated is the created of the rule that the option was made for. Ids are used again; an option of another rule is ignored.
	RuleCreated time.Time
	// Enabled is the rule's own switch while it is adopted.
	Enabled bool
	// AdoptedAt is when the rule was handed to the dispatcher, ReleasedAt when it was given back; zero where it was not. A rule is
	// adopted while the first is set and the second is not.
	AdoptedAt, ReleasedAt time.Time
	// PausedAt is since when the rule is paused; zero: it is not.
	PausedAt time.Time
	// PauseReason is why the dispatcher itself has paused the rule; "" where it has not.
	PauseReason delivery.Reason
	// URLSum is the SHA-256 of the URL that the secrets are meant for.
	URLSum [sha256.Size]byte
	// Document is the JSON of a Document, "" for none.
	Document string
	// Sealed are the JSON of Secrets, sealed with the key KeyID; "" for none.
	Sealed, KeyID string
	// Version counts the changes.
	Version uint32
}

// Adopted reports whether the rule is the dispatcher's now.
func (o *Option) Adopted() bool { return o != nil && !o.AdoptedAt.IsZero() && o.ReleasedAt.IsZero() }

// same reports whether two options, of which either may be missing, say the same; times are compared as moments.
func (o *Option) same(other *Option) bool {
	if o == nil || other == nil {
		return o == other
	}
	a, b := *o, *other
	for _, times := range [...][2]*time.Time{
		{&a.RuleCreated, &b.RuleCreated}, {&a.AdoptedAt, &b.AdoptedAt}, {&a.ReleasedAt, &b.ReleasedAt}, {&a.PausedAt, &b.PausedAt},
	} {
		if !times[0].Equal(*times[1]) {
			return false
		}
		*times[0], *times[1] = time.Time{}, time.Time{}
	}
	return a == b
}

// Key returns the rule's identity.
func (r *Rule) Key() Key { return Key{Table(r.Kind), r.ID} }

// Lane returns the queue of the rule's deliveries.
func (r *Rule) Lane() delivery.Lane { return delivery.Lane{Kind: r.Kind, RuleID: r.ID} }

// DoubleSendWarning is to be logged once when rules come from the enabled rows: the plugin inside the LMS reads the same rows.
const DoubleSendWarning = "the enabled rows are the rules, and the openedx-webhooks plugin inside LMS and CMS sends those same rows " +
	"by itself: while it is active there, receivers get every event twice. To send once, uninstall the plugin from LMS and CMS " +
	"and keep its tables (the rules commands make and show rows), or leave enabled only rows whose events the plugin does not handle"
