package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// FilterEntry is a row of the webfilter table with what became of it.
type FilterEntry struct {
	// Row is the row as it is stored. It must not be changed.
	Row FilterRow
	// Filter is nil where the row is faulty.
	Filter *Filter
	// Fault says what is wrong with the row, "" where nothing is. A row that somebody has enabled for the plugin while it is adopted has one,
	// and a Filter.
	Fault string
	// Option is what the row's own table has no column for; nil where there is nothing.
	Option *Option

	owner owner
	on    bool
}

// OnBus tells whether the row filters events of the bus; else it is called in the request.
func (e *FilterEntry) OnBus() bool {
	return e.Filter != nil && isType(e.Filter.EventType)
}

// Status returns what the row may be used for. In the request only adopted rows are called, wherever rules come from: for
// the others the plugin calls the endpoint itself. Released is no status of a filter.
func (e *FilterEntry) Status() Status {
	switch {
	case e.Filter == nil:
		return Faulty
	case e.OnBus() && e.owner == contested, !e.OnBus() && e.Row.Enabled, e.owner == plugins, e.owner == released:
		if e.Row.Enabled || e.on {
			return Foreign
		}
		return Disabled
	case !e.on:
		return Disabled
	case e.Filter.Hold != "" || e.Option != nil && !e.Option.PausedAt.IsZero():
		return Paused
	}
	return Active
}

// called tells whether the row is to be called. One that is held is, and then counts as one that gave no answer.
func (e *FilterEntry) called() bool {
	status := e.Status()
	return status == Active || status == Paused
}

// filterSet is all webfilter rows at one moment. It is immutable.
type filterSet struct {
	entries []FilterEntry        // in id order
	byEvent map[string][]*Filter // by filterKey
	counts  [Faulty + 1]int
}

// filterKey returns what a row is found by. Case does not count in names of filters; types of events are compared as everywhere.
func filterKey(event string) string {
	if isType(event) {
		return event
	}
	return strings.ToLower(event)
}

// next returns the set of what f has become.
func (f *filterSet) next(rows []FilterRow, s *Snapshot, c *Compiler) filterSet {
	rows = sorted(rows, func(a, b FilterRow) int { return cmp.Compare(a.ID, b.ID) })
	n := filterSet{entries: make([]FilterEntry, len(rows)), byEvent: make(map[string][]*Filter)}
	for i := range rows {
		option := s.optionOf(delivery.Lane{Kind: delivery.KindEvent, RuleID: rows[i].ID}, &rows[i].Row)
		e := &n.entries[i]
		if old := f.entry(rows[i].ID); old != nil && old.Row.same(&rows[i]) && old.Option.same(option) {
			*e = *old
			e.Option = option
		} else {
			*e = c.filterEntry(rows[i], option)
		}
		n.counts[e.Status()]++
		if e.called() {
			key := filterKey(e.Filter.EventType)
			n.byEvent[key] = append(n.byEvent[key], e.Filter)
		}
	}
	return n
}

// filterEntry compiles a row.
func (c *Compiler) filterEntry(row FilterRow, option *Option) FilterEntry {
	e := FilterEntry{Row: row, Option: option}
	filter, _, err := c.CompileFilter(row, option)
	if err != nil {
		e.Fault = err.Error()
		return e
	}
	e.Filter = filter
	// In the request only adopted rows are called; on the bus those that the source of rules names.
	whose := *c
	whose.Adopted = c.Adopted || !e.OnBus()
	e.owner, e.on = whose.possession(&row.Row, option)
	if e.owner == contested {
		lane := arguments(filter.Lane())
		e.Fault = fmt.Sprintf("the row is adopted, and somebody has enabled it for the plugin, which calls it now: "+
			"run rules adopt %s, or rules release %s", lane, lane)
	}
	return e
}

func (f *filterSet) entry(id int32) *FilterEntry {
	i, found := slices.BinarySearchFunc(f.entries, id, func(e FilterEntry, id int32) int { return cmp.Compare(e.Row.ID, id) })
	if !found {
		return nil
	}
	return &f.entries[i]
}

// same tells whether the set was made of these rows.
func (f *filterSet) same(rows []FilterRow) bool {
	if len(rows) != len(f.entries) {
		return false
	}
	for i := range rows {
		if e := f.entry(rows[i].ID); e == nil || !e.Row.same(&rows[i]) {
			return false
		}
	}
	return true
}

// same tells whether two rows say the same.
func (r *FilterRow) same(other *FilterRow) bool {
	return r.Same(&other.Row) && r.FilterFlags == other.FilterFlags && r.Description == other.Description
}

// Filters returns the rows that are to be called for a filter, by its name as FilterName has it, or for an event of the bus, by its type:
// in id order, those that are held among them. The slice must not be changed.
func (s *Snapshot) Filters(name string) []*Filter { return s.filters.byEvent[filterKey(name)] }

// FilterEntries returns all rows of the webfilter table in id order. The slice must not be changed.
func (s *Snapshot) FilterEntries() []FilterEntry { return s.filters.entries }

// CountFilters returns how many rows of the webfilter table have the status.
func (s *Snapshot) CountFilters(status Status) int { return s.filters.counts[status] }

// FilterEntry returns a row of the webfilter table, nil where there was none.
func (s *Snapshot) FilterEntry(id int32) *FilterEntry { return s.filters.entry(id) }
