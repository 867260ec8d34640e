package rule

import (
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Status says what a row may be used for.
type Status uint8

// The statuses.
const (
	Absent   Status = iota // no such row when the snapshot was taken
	Active                 // matched, and its deliveries are sent
	Released               // was the dispatcher's: matched for events of that time, and its deliveries are sent
	Paused                 // matched, but nothing is sent: its deliveries become rows, and wait until it is resumed
	Disabled               // good, but switched off: its waiting deliveries wait on
	Foreign                // good, but the plugin's: where only adopted rows are rules
	Faulty                 // cannot be compiled: its waiting deliveries wait on
)

// statuses are those that a row can have, in the order of metrics and logs.
var statuses = [...]Status{Active, Released, Paused, Disabled, Foreign, Faulty}

// String returns the name that commands and metrics use.
func (s Status) String() string {
	return [...]string{"absent", "active", "released", "paused", "disabled", "foreign", "faulty"}[s]
}

// Entry is a row of either table with what became of it.
type Entry struct {
	Key          Key
	Row          *Row          // as it is stored; it must not be changed
	WebfilterRow *WebfilterRow // the same row with the columns that only webfilters have; nil for a webhook
	Rule         *Rule         // nil where the row is faulty
	Webfilter    *Webfilter    // the Rule with what only webfilters have; nil for a webhook or a faulty row
	// Fault says what is wrong with the row, "" where nothing is. It holds no part of the URL but its scheme. A row that somebody has
	// enabled for the plugin while it is adopted has one, and a Rule.
	Fault  string
	Hold   string  // why nothing may be sent though nobody has paused the rule; see Compiler.Compile
	Option *Option // what the row's own table has no column for; nil where there is nothing

	owner owner
	on    bool
}

// stored is a row of either table as it was read. webfilter is nil for a webhook; else row is a part of it.
type stored struct {
	row       *Row
	webfilter *WebfilterRow
}

// same reports whether e was made of this row.
func (e *Entry) same(s stored) bool {
	if s.webfilter != nil {
		return e.WebfilterRow.same(s.webfilter)
	}
	return e.Row.Same(s.row)
}

// entry compiles a row. What rows and rules have in common is kept once: there may be ten thousand of them.
func (c *Compiler) entry(key Key, s stored, option *Option) Entry {
	e := Entry{Key: key, Option: option}
	row := *s.row
	if signal, ok := c.Catalogue.ByConstant(row.Event); ok && signal.Constant == row.Event {
		row.Event = signal.Constant
	}
	opened := c.open(key, &row, option)
	var err error
	if s.webfilter != nil {
		own := WebfilterRow{Row: row, Description: s.webfilter.Description, WebfilterFlags: s.webfilter.WebfilterFlags}
		e.WebfilterRow, e.Row = &own, &own.Row
		if e.Webfilter, err = c.webfilter(own, &opened); e.Webfilter != nil {
			e.Rule, e.Hold = e.Webfilter.Rule, e.Webfilter.Hold
		}
	} else if e.Rule, e.Hold, err = c.compile(row, &opened); e.Rule != nil {
		e.Rule.Resting = !e.Rule.Unread && !e.PausedAt().IsZero() && option.PauseReason == delivery.ReasonExpression
		e.Rule.periods = c.periods(&row, option, opened.document.Earlier)
		if e.Rule.Row == row {
			e.Row = &e.Rule.Row
		}
	}
	if e.Row == nil {
		own := row
		e.Row = &own
	}
	if err != nil {
		e.Fault = err.Error()
		return e
	}
	// In the request only adopted rows are called; on the bus those that the source of rules names.
	e.owner, e.on = ownership(&row, option, c.Adopted || e.Rule.InRequest())
	if e.owner == contested {
		e.Fault = fmt.Sprintf("the row is adopted, and somebody has enabled it for the plugin, which %s now: run rules adopt %s, or "+
			"rules release %[2]s", key.Table.either("sends its events", "calls it"), key.Arguments())
	}
	return e
}

// InRequest reports whether the rule is a webfilter that is called in a request of the LMS, and not before the webhooks of an event.
func (r *Rule) InRequest() bool { return r.Kind == Webfilters.Kind() && !isType(r.EventType) }

// OnBus reports whether the row is a webfilter of events of the bus.
func (e *Entry) OnBus() bool { return e.Webfilter != nil && !e.Rule.InRequest() }

// Status returns what the row may be used for. In the request only adopted webfilters are called, wherever rules come from: for the
// others the plugin calls the endpoint itself. Released is not a status of a webfilter.
func (e *Entry) Status() Status {
	switch {
	case e.Rule == nil:
		return Faulty
	case e.Key.Table == Webfilters && e.plugins():
		if e.Row.Enabled || e.on {
			return Foreign
		}
		return Disabled
	case !e.on:
		return Disabled
	case e.owner == plugins:
		return Foreign
	case !e.PausedAt().IsZero() || e.Hold != "":
		return Paused
	case e.owner != dispatchers && e.Key.Table == Webhooks:
		return Released
	}
	return Active
}

// plugins reports whether the plugin calls a webfilter at the moment, or nobody does because it is the plugin's and disabled.
func (e *Entry) plugins() bool {
	if e.Rule.InRequest() {
		return e.Row.Enabled || e.owner == plugins || e.owner == released
	}
	return e.owner != dispatchers
}

// used reports whether events are matched against the row. A webfilter that is held counts as one that gave no answer.
func (e *Entry) used() bool {
	status := e.Status()
	return status == Active || status == Released || status == Paused
}

// PausedAt returns since when the row is paused, zero where it is not. A disabled or faulty row may be paused as well.
func (e *Entry) PausedAt() time.Time {
	if e.Option == nil {
		return time.Time{}
	}
	return e.Option.PausedAt
}

// AsksUs reports whether the row is the one by which the plugin asks the dispatcher: that one is as it should be, and stays the plugin's.
func (e *Entry) AsksUs() bool {
	return e.Webfilter != nil && e.Status() == Foreign && e.Webfilter.LeadsBack()
}

// Trouble says why the row is not used as it stands, "" where nothing is wrong. That a webfilter could not be called is no trouble where
// nobody would: the plugin's own row has the filter endpoint as its URL, as it must.
func (e *Entry) Trouble() string {
	switch {
	case e.Fault != "":
		return e.Fault
	case e.Key.Table == Webfilters && !e.used():
		return ""
	}
	return e.Hold
}
