package rule

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Webfilters that are faulty or held are in the log and in the metrics as webhooks are, beside a webhook of the same id; each once.
func TestFaultsOfWebfilters(t *testing.T) {
	t.Parallel()
	source := &table{rows: rows(2)}
	source.rows[0].URL = "ftp://h/" // its id is that of a webfilter
	moved, option := adoptedFilter(1, "CourseEnrollmentStarted")
	option.KeyID, option.Sealed, option.URLSum = "k", `{"headers":{"X-A":"s3cret"}}`, URLSum("https://s3cret.example/")
	source.options = append(source.options, option)
	good, option := adoptedFilter(2, "DashboardRenderStarted")
	source.options = append(source.options, option)
	contested, option := adoptedFilter(3, "COURSE_ENROLLMENT_CREATED")
	contested.Enabled, contested.Modified = true, noon
	source.options = append(source.options, option)
	never := filterRow("COURSE_CERTIFICATE_CONFIG_CHANGED", "https://h/")
	never.ID = 4
	// The plugin's own row, by which it asks: its URL is no trouble.
	asking := filterRow("CourseEnrollmentStarted", "http://dispatcher:s3cret@h/filters/v1/CourseEnrollmentStarted")
	asking.ID = 5
	source.filters = []WebfilterRow{moved, good, contested, never, asking}

	r, log, registry := newRefresher(t, source)
	c := *r.options.Compiler
	c.Opener, c.Adopted = unsealed{}, true
	source.rows[1].Enabled = false
	r.options.Compiler = &c
	lines := func(what string, want map[string]int) {
		t.Helper()
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for text, n := range want {
			if got := strings.Count(log.String(), text); got != n {
				t.Errorf("%s: %q was logged %d times, want %d:\n%s", what, text, got, n, log)
			}
		}
	}
	lines("loaded", map[string]int{
		`level=WARN msg="rule is left out" rule_id=1 fault="the URL's scheme`:                                1,
		`level=WARN msg="webfilter is held back" webfilter=1 fault="its URL was changed`:                     1,
		`level=WARN msg="webfilter is held back" webfilter=3 fault="the row is adopted, and somebody`:        1,
		`level=WARN msg="webfilter is left out" webfilter=4 fault="the event COURSE_CERTIFICATE_CONFIG_CHAN`: 1,
		`level=WARN`: 4, "s3cret": 0,
		"level=DEBUG msg=webfilter webfilter=2 status=active event_type=DashboardRenderStarted target=https://":  1,
		"webfilters.active=1 webfilters.paused=1 webfilters.disabled=0 webfilters.foreign=2 webfilters.faulty=1": 1,
	})
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP webhook_dispatcher_webfilters Rows of the webfilter table by status: active, paused (held), disabled, foreign, faulty.
# TYPE webhook_dispatcher_webfilters gauge
webhook_dispatcher_webfilters{status="active"} 1
webhook_dispatcher_webfilters{status="disabled"} 0
webhook_dispatcher_webfilters{status="faulty"} 1
webhook_dispatcher_webfilters{status="foreign"} 2
webhook_dispatcher_webfilters{status="paused"} 1
`), "webhook_dispatcher_webfilters"); err != nil {
		t.Error(err)
	}

	// Another change brings none of them again; one that mends a row and breaks it once more does.
	source.set(func(s *table) { s.rows[1].Enabled = true })
	lines("another change", map[string]int{`level=WARN`: 4, "rules changed": 1})
	source.set(func(s *table) { s.filters[3].Event = "COURSE_CREATED" })
	lines("mended", map[string]int{`level=WARN`: 4, "rules changed": 2})
	source.set(func(s *table) { s.filters[3].Event = never.Event })
	lines("broken again", map[string]int{"webfilter=4 fault=": 2, `level=WARN`: 5})
}

// A table full of nonsense does not fill the log as well.
func TestFaultsAreLoggedWithinBounds(t *testing.T) {
	t.Parallel()
	source := &table{rows: rows(maxFaultsLogged + 3)}
	for i := range source.rows {
		source.rows[i].URL = "ftp://h/"
	}
	for i := range maxFaultsLogged + 1 {
		row := filterRow("no name", "https://h/")
		row.ID = int32(i + 1)
		source.filters = append(source.filters, row)
	}
	r, log, _ := newRefresher(t, source)
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{
		`msg="rule is left out"`: maxFaultsLogged, `msg="webfilter is left out"`: maxFaultsLogged,
		`msg="more rules are left out or held back; see rules list" rules=3`:                            1,
		`msg="more webfilters are left out or held back; see rules list --kind webfilter" webfilters=1`: 1,
	} {
		if n := strings.Count(log.String(), text); n != want {
			t.Errorf("%q was logged %d times, want %d:\n%s", text, n, want, log)
		}
	}
}
