package rule

import (
	"slices"
	"testing"
	"time"
)

// adoptedFilter returns a row of the webfilter table that is the dispatcher's, with its option.
func adoptedFilter(id int32, event string) (WebfilterRow, Option) {
	row := filterRow(event, "https://rows.example.org/")
	row.ID, row.Enabled = id, false
	return row, Option{Key: Key{Webfilters, id}, Enabled: true, AdoptedAt: noon}
}

// Rows of the bus and rows of the request are two worlds: whoever asks for one of them gets none of the other. In names case does not
// count.
func TestFiltersByName(t *testing.T) {
	t.Parallel()
	var all Tables
	for id, event := range []string{
		"MyFilter", "myFILTER", "CourseEnrollmentStarted", "COURSE_ENROLLMENT_CREATED", "org.openedx.learning.badge.awarded.v1", "my.filter",
	} {
		row, option := adoptedFilter(int32(id+1), event)
		all.Webfilters, all.Options = append(all.Webfilters, row), append(all.Options, option)
	}
	for _, adopted := range []bool{false, true} {
		c := compiler(t)
		c.Adopted = adopted
		s := NewSnapshot(all, c)
		for _, e := range s.Entries(Webfilters) {
			if e.OnBus() != (e.Row.ID > 3) || e.Status() != Active {
				t.Errorf("row %d: on the bus %v, %v", e.Row.ID, e.OnBus(), e.Status())
			}
		}
		for _, c := range []struct {
			name           string
			request, event []int32 // the rows that are called for a request of this name, and for an event of this type
		}{
			{"MyFilter", []int32{1, 2}, nil},
			{"myfilter", []int32{1, 2}, nil},
			{"courseenrollmentSTARTED", []int32{3}, nil},
			{enrollmentCreated, nil, []int32{4}},
			{"ORG.openedx.learning.course.enrollment.created.v1", nil, nil},
			{"org.openedx.learning.badge.awarded.v1", nil, []int32{5}},
			{"my.filter", nil, []int32{6}},
			{"COURSE_ENROLLMENT_CREATED", nil, nil},
			{"", nil, nil},
		} {
			if got := ids(s.Webfilters(FilterName(c.name))); !slices.Equal(got, c.request) {
				t.Errorf("source adopted: %v: a request for %q calls %v, want %v", adopted, c.name, got, c.request)
			}
			if !isType(c.name) {
				continue // no rule can want such an event
			}
			if got := ids(s.Webfilters(c.name)); !slices.Equal(got, c.event) {
				t.Errorf("source adopted: %v: an event %q calls %v, want %v", adopted, c.name, got, c.event)
			}
		}
	}
}

func ids(filters []*Webfilter) []int32 {
	var list []int32
	for _, f := range filters {
		list = append(list, f.ID)
	}
	return list
}

// The namespaces stay apart only as long as every type of the platform has a dot in it, and none of the plugin's names has.
func TestTypesAndNamesOfFiltersDoNotMeet(t *testing.T) {
	t.Parallel()
	for _, signal := range catalogue(t).Signals() {
		if !isType(signal.Type) {
			t.Errorf("%s looks like the name of a filter", signal.Type)
		}
	}
	for _, f := range PluginFilters() {
		if isType(f.Name) || isType(f.Former) {
			t.Errorf("the plugin's %s looks like an event's type", f.Name)
		}
	}
	if dotted.MatchString("MyFilter") || filterName.MatchString("my.filter") {
		t.Error("a row's event can be both, a name and a type")
	}
}

// An adopted row that somebody enables for the plugin says how to go on, by the table that it is in.
func TestContestedFilter(t *testing.T) {
	t.Parallel()
	row, option := adoptedFilter(9, "CourseEnrollmentStarted")
	row.Enabled, row.Modified = true, noon.Add(time.Hour)
	s := NewSnapshot(Tables{Webfilters: []WebfilterRow{row}, Options: []Option{option}}, compiler(t))
	const want = "the row is adopted, and somebody has enabled it for the plugin, which calls it now: " +
		"run rules adopt 9 --kind webfilter, or rules release 9 --kind webfilter"
	e := s.Entry(Key{Webfilters, 9})
	if e.Fault != want || e.Webfilter == nil || e.Status() != Foreign || s.Webfilters("CourseEnrollmentStarted") != nil {
		t.Errorf("%v: %q", e.Status(), e.Fault)
	}
}
