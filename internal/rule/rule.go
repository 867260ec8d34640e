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
	row := *r
	row.Created, row.Modified = other.Created, other.Modified
	return row == *other && r.Created.Equal(other.Created) && r.Modified.Equal(other.Modified)
}

// Rule is a row that can be acted on, with its options. It is immutable. Its URL has been checked, and has no spaces before it.
type Rule struct {
	Row
	Kind      delivery.Kind       // of the rule's deliveries
	EventType string              // the dotted type that the rule wants
	Target    string              // scheme and host of the URL: all of it that may stand in a log
	Format    delivery.Format     // how bodies are encoded
	Shape     payload.Shape       // how bodies are arranged
	Filter    *expression.Program // says of an event whether the rule fires; nil: it does
	Transform *expression.Program // makes the body, or its data; nil: the event's own
	// Resting is set while the rule is paused because its expressions fail: its events are kept as they are, and nothing is spent on them.
	Resting bool
	// Unread is set where the options could not be read: what is sent of an event is not known now, so the event itself is kept.
	Unread bool
	Limits Limits  // the rule's own
	Access *Access // what requests carry beside the body; nil: nothing of the rule's own

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
	Concurrency   int             // requests under way
	Rate          float64         // requests that begin in a second
	Timeout       time.Duration   // of the whole exchange
	RetrySchedule []time.Duration // a delay for each retry; it must not be changed
}

// Option is a row of webhook_dispatcher_rule_option: what the plugin's table has no column for.
type Option struct {
	Key Key // the rule's
	// RuleCreated is the created of the rule that the option was made for. Ids are used again; an option of another rule is ignored.
	RuleCreated time.Time
	Enabled     bool // the rule's own switch while it is adopted
	// AdoptedAt is when the rule was handed to the dispatcher, ReleasedAt when it was given back; zero where it was not. A rule is
	// adopted while the first is set and the second is not.
	AdoptedAt, ReleasedAt time.Time
	PausedAt              time.Time         // since when the rule is paused; zero: it is not
	PauseReason           delivery.Reason   // why the dispatcher itself has paused the rule; "" where it has not
	URLSum                [sha256.Size]byte // SHA-256 of the URL that the secrets are meant for
	Document              string            // the JSON of a Document, "" for none
	Sealed, KeyID         string            // the JSON of Secrets, sealed with the key KeyID; "" for none
	Version               uint32            // counts the changes
}

// Adopted reports whether the rule is the dispatcher's now.
func (o *Option) Adopted() bool { return o != nil && !o.AdoptedAt.IsZero() && o.ReleasedAt.IsZero() }

// same reports whether two options, of which either may be missing, say the same; times are compared as moments.
func (o *Option) same(other *Option) bool {
	if o == nil || other == nil {
		return o == other
	}
	option := *o
	option.RuleCreated, option.AdoptedAt, option.ReleasedAt, option.PausedAt =
		other.RuleCreated, other.AdoptedAt, other.ReleasedAt, other.PausedAt
	return option == *other && o.RuleCreated.Equal(other.RuleCreated) && o.AdoptedAt.Equal(other.AdoptedAt) &&
		o.ReleasedAt.Equal(other.ReleasedAt) && o.PausedAt.Equal(other.PausedAt)
}

// Key returns the rule's identity.
func (r *Rule) Key() Key { return Key{Table(r.Kind), r.ID} }

// Lane returns the queue of the rule's deliveries.
func (r *Rule) Lane() delivery.Lane { return delivery.Lane{Kind: r.Kind, RuleID: r.ID} }

// DoubleSendWarning is to be logged once when rules come from the enabled rows: the plugin inside the LMS reads the same rows.
const DoubleSendWarning = "the enabled rows are the rules, and the openedx-webhooks plugin inside LMS and CMS sends those same rows " +
	"by itself: while it is active there, receivers get every event twice. To send once, uninstall the plugin from LMS and CMS " +
	"and keep its tables (the rules commands make and show rows), or leave enabled only rows whose events the plugin does not handle"
