package rule

import (
	"cmp"
	"slices"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Status says what a row may be used for.
type Status uint8

// The statuses.
const (
	Absent   Status = iota // no such row when the snapshot was taken
	Active                 // matched
	Disabled               // good, but switched off: its waiting deliveries wait on
	Faulty                 // cannot be compiled: its waiting deliveries wait on
)

// String returns the name that commands and metrics use.
func (s Status) String() string { return [...]string{"absent", "active", "disabled", "faulty"}[s] }

// Entry is a row with what became of it.
type Entry struct {
	Row Row
	// Kind is the kind of deliveries that the row makes.
	Kind delivery.Kind
	// Rule is nil where the row is faulty.
	Rule *Rule
	// Fault says what is wrong with the row, "" where nothing is. It holds no part of the URL but its scheme.
	Fault string
}

// Status returns what the row may be used for.
func (e *Entry) Status() Status {
	switch {
	case e.Rule == nil:
		return Faulty
	case !e.Row.Enabled:
		return Disabled
	}
	return Active
}

// Snapshot is all rules at one moment, immutable and safe for concurrent use. A nil Snapshot is no empty one: its
// methods panic, because rules that were never loaded must not look like no rules.
type Snapshot struct {
	entries []Entry // in id order
	byEvent map[string][]*Rule
	byLane  map[delivery.Lane]*Entry
	counts  [Faulty + 1]int
}

// NewSnapshot compiles rows. A row that cannot be compiled becomes an entry with its fault and harms no other.
func NewSnapshot(rows []Row, catalogue *schema.Catalogue) *Snapshot {
	s := &Snapshot{
		entries: make([]Entry, len(rows)),
		byEvent: make(map[string][]*Rule),
		byLane:  make(map[delivery.Lane]*Entry, len(rows)),
	}
	for i, row := range rows {
		s.entries[i] = Entry{Row: row, Kind: delivery.KindWebhook}
	}
	slices.SortStableFunc(s.entries, func(a, b Entry) int { return cmp.Compare(a.Row.ID, b.Row.ID) })
	for i := range s.entries {
		e := &s.entries[i]
		rule, err := Compile(e.Row, catalogue)
		if err != nil {
			e.Fault = err.Error()
		}
		e.Rule = rule
		status := e.Status()
		s.counts[status]++
		s.byLane[delivery.Lane{Kind: e.Kind, RuleID: e.Row.ID}] = e
		if status == Active {
			s.byEvent[rule.EventType] = append(s.byEvent[rule.EventType], rule)
		}
	}
	return s
}

// Match returns the active rules that want the event type, in id order. It takes the same time however many rules there
// are and does not allocate; the slice must not be changed.
func (s *Snapshot) Match(eventType string) []*Rule { return s.byEvent[eventType] }

// Wants tells whether any active rule wants the event type.
func (s *Snapshot) Wants(eventType string) bool { return len(s.byEvent[eventType]) > 0 }

// Lookup returns the rule of a lane and its status. The rule is there for Active and Disabled. Absent says nothing about
// the database now: a row may have been made since.
func (s *Snapshot) Lookup(lane delivery.Lane) (*Rule, Status) {
	e, ok := s.byLane[lane]
	if !ok {
		return nil, Absent
	}
	return e.Rule, e.Status()
}

// Active returns the rule of a lane if it is active, else nil.
func (s *Snapshot) Active(lane delivery.Lane) *Rule {
	if rule, status := s.Lookup(lane); status == Active {
		return rule
	}
	return nil
}

// Entries returns all rows in id order, faulty and disabled ones included. The slice must not be changed.
func (s *Snapshot) Entries() []Entry { return s.entries }

// Count returns how many rows have the status.
func (s *Snapshot) Count(status Status) int { return s.counts[status] }

// EventTypes returns how many event types any active rule wants.
func (s *Snapshot) EventTypes() int { return len(s.byEvent) }

// same tells whether the snapshot was made of these rows, given in any order.
func (s *Snapshot) same(rows []Row) bool {
	if len(rows) != len(s.entries) {
		return false
	}
	sorted := rows
	if !slices.IsSortedFunc(rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) }) {
		sorted = slices.Clone(rows)
		slices.SortStableFunc(sorted, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	}
	for i := range sorted {
		if !sorted[i].same(&s.entries[i].Row) {
			return false
		}
	}
	return true
}
