package rule

import (
	"cmp"
	"fmt"
	"slices"
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

// Entry is a row with what became of it.
type Entry struct {
	// Row is the row as it is stored. It must not be changed.
	Row *Row
	// Kind is the kind of deliveries that the row makes.
	Kind delivery.Kind
	// Rule is nil where the row is faulty.
	Rule *Rule
	// Fault says what is wrong with the row, "" where nothing is. It holds no part of the URL but its scheme.
	Fault string
	// Hold says why nothing may be sent though nobody has paused the rule; see Compiler.Compile.
	Hold string
	// Option is what the row's own table has no column for; nil where there is nothing.
	Option *Option

	owner owner
	on    bool
}

// newEntry compiles a row. What rows and rules have in common is kept once: there may be ten thousand of them.
func newEntry(row Row, option *Option, c *Compiler) Entry {
	if signal, ok := c.Catalogue.ByConstant(row.Event); ok && signal.Constant == row.Event {
		row.Event = signal.Constant
	}
	e := Entry{Kind: delivery.KindWebhook, Option: option}
	rule, hold, err := c.Compile(row, option)
	if err != nil {
		e.Fault = err.Error()
	}
	e.Rule, e.Hold = rule, hold
	if rule != nil {
		e.owner, e.on = c.possession(&row, option)
		if e.owner == contested {
			e.Fault = fmt.Sprintf("the row is adopted, and somebody has enabled it for the plugin, which sends its events now: "+
				"run rules adopt %d, or rules release %d", row.ID, row.ID)
		}
	}
	if rule != nil && rule.Row == row {
		e.Row = &rule.Row
		return e
	}
	own := row
	e.Row = &own
	return e
}

// Status returns what the row may be used for.
func (e *Entry) Status() Status {
	switch {
	case e.Rule == nil:
		return Faulty
	case !e.on:
		return Disabled
	case e.owner == plugins:
		return Foreign
	case !e.PausedAt().IsZero() || e.Hold != "":
		return Paused
	case e.owner != dispatchers:
		return Released
	}
	return Active
}

// matched tells whether events are matched against the row.
func (e *Entry) matched() bool {
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

// Snapshot is all rules at one moment, immutable and safe for concurrent use. A nil Snapshot is no empty one: its
// methods panic, because rules that were never loaded must not look like no rules.
type Snapshot struct {
	entries []Entry  // in id order
	options []Option // as they were read, those that belong to no row included; in the order of compareOptions
	byEvent map[string][]*Rule
	byLane  map[delivery.Lane]*Entry
	counts  [Faulty + 1]int
	filters filterSet
	// contended are the event types of rows that the plugin sends at the moment, where only adopted rows are rules.
	contended map[string]bool
}

// NewSnapshot compiles rows with their options; the lists may be in any order. A row that cannot be compiled becomes an entry with its
// fault and harms no other.
// An option that was made for another row of the same id is left out.
func NewSnapshot(table Table, c *Compiler) *Snapshot {
	var none Snapshot
	return none.next(table, c)
}

// next returns the snapshot of what s has become. What has not changed is taken from s, rules included.
func (s *Snapshot) next(table Table, c *Compiler) *Snapshot {
	rows := sorted(table.Webhooks, compareRows)
	n := &Snapshot{
		entries: make([]Entry, len(rows)),
		options: slices.Clone(table.Options),
		byEvent: make(map[string][]*Rule),
		byLane:  make(map[delivery.Lane]*Entry, len(rows)),

		contended: make(map[string]bool),
	}
	slices.SortFunc(n.options, compareOptions)
	wanted := make(map[string]int)
	for i := range rows {
		lane := delivery.Lane{Kind: delivery.KindWebhook, RuleID: rows[i].ID}
		option := n.optionOf(lane, &rows[i])
		e := &n.entries[i]
		if old := s.byLane[lane]; old != nil && old.Row.Same(&rows[i]) && old.Option.same(option) {
			*e = *old
			e.Option = option // equal, but the old one would keep all of the old options alive
		} else {
			*e = newEntry(rows[i], option, c)
		}
		n.byLane[lane] = e
		n.counts[e.Status()]++
		if c.Adopted && e.Rule != nil && e.Row.Enabled {
			n.contended[e.Rule.EventType] = true
		}
		if e.matched() {
			wanted[e.Rule.EventType]++
		}
	}
	for i := range n.entries {
		if e := &n.entries[i]; e.matched() {
			rules := n.byEvent[e.Rule.EventType]
			if rules == nil {
				rules = make([]*Rule, 0, wanted[e.Rule.EventType])
			}
			n.byEvent[e.Rule.EventType] = append(rules, e.Rule)
		}
	}
	n.filters = s.filters.next(table.Webfilters, n, c)
	return n
}

// optionOf finds the option of a row, nil where there is none.
func (s *Snapshot) optionOf(lane delivery.Lane, row *Row) *Option {
	i, ok := slices.BinarySearchFunc(s.options, Option{Kind: lane.Kind, RuleID: lane.RuleID}, compareOptions)
	if !ok || !s.options[i].RuleCreated.Equal(row.Created) {
		return nil
	}
	return &s.options[i]
}

func compareRows(a, b Row) int { return cmp.Compare(a.ID, b.ID) }

func compareOptions(a, b Option) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.RuleID, b.RuleID))
}

// Match returns the rules that want the event type, active, released and paused ones, in id order. A paused one is among them because its
// events are kept as rows for the time after it. Whether a rule takes an event of some time, its Takes tells. Match takes the same time
// however many rules there are and does not allocate; the slice must not be changed.
func (s *Snapshot) Match(eventType string) []*Rule { return s.byEvent[eventType] }

// Wants tells whether any rule takes an event of the type; the times are those of Rule.Takes.
func (s *Snapshot) Wants(eventType string, at, recorded time.Time) bool {
	for _, r := range s.byEvent[eventType] {
		if r.Takes(at, recorded) {
			return true
		}
	}
	return false
}

// Contended tells whether the plugin sends events of the type for some row, and the dispatcher would were the row adopted. Such a row may
// have been adopted since the snapshot was read, so what it says of an event that came later is not enough: see Refresher.Fresh.
func (s *Snapshot) Contended(eventType string) bool { return s.contended[eventType] }

// Lookup returns the rule of a lane and its status. The rule is there for all but Absent and Faulty. Absent says nothing about
// the database now: a row may have been made since.
func (s *Snapshot) Lookup(lane delivery.Lane) (*Rule, Status) {
	e, ok := s.byLane[lane]
	if !ok {
		return nil, Absent
	}
	return e.Rule, e.Status()
}

// Active returns the rule of a lane if its deliveries are to be sent, else nil.
func (s *Snapshot) Active(lane delivery.Lane) *Rule {
	if rule, status := s.Lookup(lane); status == Active || status == Released {
		return rule
	}
	return nil
}

// Paused tells whether the rule of a lane would be active if it were not paused.
func (s *Snapshot) Paused(lane delivery.Lane) bool {
	_, status := s.Lookup(lane)
	return status == Paused
}

// Entries returns all rows in id order, faulty and disabled ones included. The slice must not be changed.
func (s *Snapshot) Entries() []Entry { return s.entries }

// Count returns how many rows have the status.
func (s *Snapshot) Count(status Status) int { return s.counts[status] }

// EventTypes returns how many event types Match finds rules for.
func (s *Snapshot) EventTypes() int { return len(s.byEvent) }

// same tells whether the snapshot was made of these rows and options.
func (s *Snapshot) same(table *Table) bool {
	if len(table.Webhooks) != len(s.entries) || len(table.Options) != len(s.options) || !s.filters.same(table.Webfilters) {
		return false
	}
	rows := sorted(table.Webhooks, compareRows)
	for i := range rows {
		if !rows[i].Same(s.entries[i].Row) {
			return false
		}
	}
	options := sorted(table.Options, compareOptions)
	for i := range options {
		if !options[i].same(&s.options[i]) {
			return false
		}
	}
	return true
}

// sorted returns the list in order, itself if it is.
func sorted[T any](list []T, compare func(a, b T) int) []T {
	if slices.IsSortedFunc(list, compare) {
		return list
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, compare)
	return list
}
