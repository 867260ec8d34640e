package rule

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Snapshot is all rules at one moment, immutable and safe for concurrent use. A nil Snapshot is not an empty one: its methods panic,
// because rules that were never loaded must not look like no rules.
type Snapshot struct {
	webhooks, webfilters entries
	options              []Option // as they were read, those that belong to no row included; by key
	byEvent              map[string][]*Rule
	byFilter             map[string][]*Webfilter // by filterKey
	// contended are the event types of rows that the plugin sends at the moment, where only adopted rows are rules.
	contended map[string]bool
}

// entries are the rows of one table.
type entries struct {
	list   []Entry // in id order
	counts [Faulty + 1]int
}

// NewSnapshot compiles rows with their options; the lists may be in any order. A row that cannot be compiled becomes an entry with its
// fault and harms no other. An option that was made for another row of the same id is left out.
func NewSnapshot(tables Tables, c *Compiler) *Snapshot { return (&Snapshot{}).next(tables, c) }

// next returns the snapshot of what s has become. What has not changed is taken from s, rules included.
func (s *Snapshot) next(tables Tables, c *Compiler) *Snapshot {
	n := &Snapshot{
		options: slices.Clone(tables.Options), byEvent: make(map[string][]*Rule), byFilter: make(map[string][]*Webfilter),
		contended: make(map[string]bool),
	}
	slices.SortFunc(n.options, compareOptions)
	n.webhooks = s.webhooks.next(Webhooks, tables.webhooks(), n, c)
	n.webfilters = s.webfilters.next(Webfilters, tables.webfilters(), n, c)
	n.index(c.Adopted)
	return n
}

// index fills the maps.
func (s *Snapshot) index(adopted bool) {
	for i := range s.webhooks.list {
		e := &s.webhooks.list[i]
		if adopted && e.Rule != nil && e.Row.Enabled {
			s.contended[e.Rule.EventType] = true
		}
		if e.used() {
			s.byEvent[e.Rule.EventType] = append(s.byEvent[e.Rule.EventType], e.Rule)
		}
	}
	for i := range s.webfilters.list {
		if e := &s.webfilters.list[i]; e.used() {
			key := filterKey(e.Rule.EventType)
			s.byFilter[key] = append(s.byFilter[key], e.Webfilter)
		}
	}
}

// next returns the entries of a table's rows, which are in id order.
func (t *entries) next(table Table, rows []stored, s *Snapshot, c *Compiler) entries {
	n := entries{list: make([]Entry, len(rows))}
	for i, row := range rows {
		key := Key{table, row.row.ID}
		option := s.optionOf(key, row.row)
		e := &n.list[i]
		if before := t.find(key.ID); before != nil && before.same(row) && before.Option.same(option) {
			*e = *before
			e.Option = option // equal, but the old one would keep all of the old options alive
		} else {
			*e = c.entry(key, row, option)
		}
		n.counts[e.Status()]++
	}
	return n
}

// find returns a row, nil where there was none.
func (t *entries) find(id int32) *Entry {
	if i, found := slices.BinarySearchFunc(t.list, id, func(e Entry, id int32) int { return cmp.Compare(e.Key.ID, id) }); found {
		return &t.list[i]
	}
	return nil
}

// same reports whether the entries were made of these rows.
func (t *entries) same(rows []stored) bool {
	if len(rows) != len(t.list) {
		return false
	}
	for i, row := range rows {
		if !t.list[i].same(row) {
			return false
		}
	}
	return true
}

// webhooks and webfilters return the rows of their table in id order.
func (t *Tables) webhooks() []stored {
	return inOrder(t.Webhooks, func(row *Row) stored { return stored{row: row} })
}

func (t *Tables) webfilters() []stored {
	return inOrder(t.Webfilters, func(row *WebfilterRow) stored { return stored{&row.Row, row} })
}

func inOrder[T any](rows []T, of func(*T) stored) []stored {
	list := make([]stored, len(rows))
	for i := range rows {
		list[i] = of(&rows[i])
	}
	slices.SortStableFunc(list, func(a, b stored) int { return cmp.Compare(a.row.ID, b.row.ID) })
	return list
}

// optionOf finds the option of a row, nil where there is none.
func (s *Snapshot) optionOf(key Key, row *Row) *Option {
	i, ok := slices.BinarySearchFunc(s.options, key, func(o Option, key Key) int { return CompareKeys(o.Key, key) })
	if !ok || !s.options[i].RuleCreated.Equal(row.Created) {
		return nil
	}
	return &s.options[i]
}

func compareOptions(a, b Option) int { return CompareKeys(a.Key, b.Key) }

// filterKey returns what a webfilter is found by. Case does not count in names of filters; types of events are compared as everywhere.
func filterKey(event string) string {
	if isType(event) {
		return event
	}
	return strings.ToLower(event)
}

// Match returns the rules that want the event type, active, released and paused ones, in id order. A paused one is among them because its
// events are kept as rows for the time after it. Whether a rule takes an event of some time, its Takes says. Match takes the same time
// however many rules there are and does not allocate; the slice must not be changed.
func (s *Snapshot) Match(eventType string) []*Rule { return s.byEvent[eventType] }

// Webfilters returns the rows that are to be called for a filter, by its name as FilterName has it, or for an event of the bus, by its
// type: in id order, those that are held among them. The slice must not be changed.
func (s *Snapshot) Webfilters(name string) []*Webfilter { return s.byFilter[filterKey(name)] }

// Wants reports whether any rule takes an event of the type; the times are those of Rule.Takes.
func (s *Snapshot) Wants(eventType string, at, recorded time.Time) bool {
	return slices.ContainsFunc(s.byEvent[eventType], func(r *Rule) bool { return r.Takes(at, recorded) })
}

// Contended reports whether the plugin sends events of the type for some row, and the dispatcher would were the row adopted. Such a row
// may have been adopted since the snapshot was read, so what it says of an event that came later is not enough: see Refresher.Fresh.
func (s *Snapshot) Contended(eventType string) bool { return s.contended[eventType] }

// Lookup returns a rule, nil if Absent or Faulty, and its status. A row that is Absent may have been made since.
func (s *Snapshot) Lookup(key Key) (*Rule, Status) {
	if e := s.Entry(key); e != nil {
		return e.Rule, e.Status()
	}
	return nil, Absent
}

// Active returns a rule if its deliveries are to be sent, else nil.
func (s *Snapshot) Active(key Key) *Rule {
	if rule, status := s.Lookup(key); status == Active || status == Released {
		return rule
	}
	return nil
}

// Paused reports whether a rule would be active if it were not paused.
func (s *Snapshot) Paused(key Key) bool {
	_, status := s.Lookup(key)
	return status == Paused
}

func (s *Snapshot) table(table Table) *entries {
	if table == Webfilters {
		return &s.webfilters
	}
	return &s.webhooks
}

// Entry returns a row, nil where there was none.
func (s *Snapshot) Entry(key Key) *Entry {
	if key.Table != Webhooks && key.Table != Webfilters {
		return nil
	}
	return s.table(key.Table).find(key.ID)
}

// Entries returns all rows of a table in id order, faulty and disabled ones included. The slice must not be changed.
func (s *Snapshot) Entries(table Table) []Entry { return s.table(table).list }

// Count returns how many rows of a table have the status.
func (s *Snapshot) Count(table Table, status Status) int { return s.table(table).counts[status] }

// EventTypes returns how many event types Match finds rules for.
func (s *Snapshot) EventTypes() int { return len(s.byEvent) }

// same reports whether the snapshot was made of these rows and options.
func (s *Snapshot) same(t *Tables) bool {
	if len(t.Options) != len(s.options) || !s.webhooks.same(t.webhooks()) || !s.webfilters.same(t.webfilters()) {
		return false
	}
	options := slices.Clone(t.Options)
	slices.SortFunc(options, compareOptions)
	return slices.EqualFunc(options, s.options, func(a, b Option) bool { return a.same(&b) })
}
