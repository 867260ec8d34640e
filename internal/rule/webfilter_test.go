package rule

import (
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func filterRow(event, url string) WebfilterRow {
	return WebfilterRow{Row: Row{ID: 9, Event: event, URL: url, Enabled: true}}
}

func TestCompileFilter(t *testing.T) {
	t.Parallel()
	const address = "https://rows.example.org/s3cret"
	for _, c := range []struct {
		name, event, url string
		options          string
		want             string // the event that comes out
		hold, fault      string // parts of what is said
	}{
		{name: "filter", event: "CourseEnrollmentStarted", url: address, want: "CourseEnrollmentStarted"},
		{name: "any case, spaces", event: "courseenrollmentSTARTED ", url: " " + address, want: "CourseEnrollmentStarted"},
		{name: "old name", event: "XblockRenderStarted", url: address, want: "RenderXBlockStarted"},
		{name: "old name in case alone", event: "IdvPageUrlRequested", url: address, want: "IDVPageURLRequested"},
		{name: "signal constant", event: "course_enrollment_created", url: address, want: enrollmentCreated},
		{name: "known type", event: "org.openedx.learning.badge.awarded.v1", url: address, want: "org.openedx.learning.badge.awarded.v1"},
		{name: "unknown type", event: "com.example.thing.v1", url: address, want: "com.example.thing.v1"},
		{name: "no type", event: "a..b", url: address, fault: "is not the name of a filter"},
		{name: "another filter", event: "CoursewareViewStarted", url: address, want: "CoursewareViewStarted"},
		{name: "no event", event: " ", url: address, fault: "the event is empty"},
		{name: "long event", event: strings.Repeat("x", 51), url: address, fault: "more than 50"},
		{name: "no name", event: "a b\n", url: address, fault: "is not the name of a filter"},
		{name: "never on the bus", event: "COURSE_CERTIFICATE_CONFIG_CHANGED", url: address, fault: "never comes"},
		{name: "no URL", event: "X", want: "X", hold: "the URL is empty"},
		{name: "other scheme", event: "X", url: "ftp://s3cret/", want: "X", hold: "ftp"},
		{
			name: "itself", event: "X", url: "http://dispatcher:s3cret@host:8082/filters/v1/x", want: "X",
			hold: "the filter endpoint of a dispatcher",
		},
		{
			name: "another filter's endpoint", event: "X", url: "http://host//filters/./v1/CohortChangeRequested?s3cret", want: "X",
			hold: "the filter endpoint of a dispatcher",
		},
		{name: "a path like it", event: "X", url: "http://host/filters/v1/mine", want: "X"},
		{
			name: "options", event: "X", url: address, want: "X",
			options: `{"timeout": "1s", "headers": {"X-A": "b"}, "preset": "r", "shape": "plugin"}`,
		},
		{name: "filter option", event: "X", url: address, options: `{"filter": "true"}`, want: "X", hold: "the option filter "},
		{name: "transform", event: "X", url: address, options: `{"transform": "."}`, want: "X", hold: "the option transform "},
		{name: "shape", event: "X", url: address, options: `{"shape": "standard"}`, want: "X", hold: "the option shape "},
		{name: "event type", event: "X", url: address, options: `{"event_type": "a.b"}`, want: "X", hold: "the option event_type "},
		{name: "rate", event: "X", url: address, options: `{"rate": 1}`, want: "X", hold: "the option rate "},
		{name: "concurrency", event: "X", url: address, options: `{"concurrency": 1}`, want: "X", hold: "the option concurrency "},
		{name: "retries", event: "X", url: address, options: `{"retry_schedule": ["1s"]}`, want: "X", hold: "the option retry_schedule "},
		{name: "timeout", event: "X", url: address, options: `{"timeout": "1ms"}`, want: "X", hold: "the timeout 1ms"},
		{name: "reserved header", event: "X", url: address, options: `{"headers": {"Host": "s3cret"}}`, want: "X", hold: "reserved"},
		{name: "unreadable options", event: "X", url: address, options: `{"later": 1}`, want: "X", hold: "later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var option *Option
			if c.options != "" {
				option = &Option{Key: Key{Webfilters, 9}, Document: c.options}
			}
			f, hold, err := webfilterOf(compiler(t), filterRow(c.event, c.url), option)
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) || f != nil {
					t.Errorf("%v, %v", f, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f.EventType != c.want || f.Hold != hold || (hold != "") != (c.hold != "") || !strings.Contains(hold, c.hold) {
				t.Errorf("event %q, hold %q", f.EventType, hold)
			}
			if strings.Contains(hold, "s3cret") {
				t.Errorf("%q tells a secret", hold)
			}
			if hold == "" && (f.Access.Header[HopHeader] != "1" || f.Kind != delivery.KindEvent || f.Target == "") {
				t.Errorf("%+v, header %v", f.Rule, f.Access.Header)
			}
		})
	}
}

func TestFilterTakesOverItsRow(t *testing.T) {
	t.Parallel()
	row := filterRow("X", "https://h/")
	row.Form, row.Description = true, "d"
	row.WebfilterFlags = WebfilterFlags{
		DisableFiltering: true, DisableHalt: true, HaltOn4xx: true, RedirectOn4xx: "4", HaltOn5xx: true, RedirectOn5xx: "5",
		HaltOnRequestException: true, RedirectOnRequestException: "x",
	}
	option := &Option{Document: `{"timeout": "1500ms", "headers": {"x-a": "b", "` + strings.ToLower(HopHeader) + `": "0"}}`}
	f, hold, err := webfilterOf(compiler(t), row, option)
	if err != nil || hold != "" {
		t.Fatal(hold, err)
	}
	if f.WebfilterFlags != row.WebfilterFlags || f.Format != delivery.FormatForm || f.Limits.Timeout != 1500*time.Millisecond {
		t.Errorf("%+v", f)
	}
	if len(f.Access.Header) != 2 || f.Access.Header["X-A"] != "b" || f.Access.Header[HopHeader] != "1" {
		t.Errorf("headers %v", f.Access.Header)
	}
}

// Secrets stay shut for a URL that they were not given for, as with webhooks.
func TestFilterWhoseURLWasChanged(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	c.Opener = openedTo(`{"auth": "t0ken"}`)
	row := filterRow("X", "https://h/new")
	option := &Option{Document: `{"auth": {"type": "bearer"}}`, Sealed: "x", URLSum: URLSum("https://h/old")}
	f, hold, err := webfilterOf(c, row, option)
	if err != nil || !strings.HasSuffix(hold, " run rules set 9 --kind webfilter --confirm-url") || f.Access != nil {
		t.Errorf("%q, %v, %v", hold, f.Access, err)
	}
	option.URLSum = URLSum(row.URL)
	if f, hold, err = webfilterOf(c, row, option); err != nil || hold != "" || f.Access.Authorization != "Bearer t0ken" {
		t.Errorf("%q, %v", hold, err)
	}
}

// opened opens everything to one text.
type openedTo string

func (o openedTo) Open(Key, string, string, []byte) ([]byte, error) { return []byte(o), nil }

func TestFilterName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"StudentSettingsRenderStarted": "AccountSettingsRenderStarted", "XblockRenderStarted": "RenderXBlockStarted",
		"CourseHomepageUrlCreationStarted": "CourseHomeUrlCreationStarted", "HomeEnrollmentApiRendered": "CourseEnrollmentAPIRenderStarted",
		"HomeCourserunApiRenderedStarted": "CourseRunAPIRenderStarted", "OraSubmissionViewRenderStarted": "ORASubmissionViewRenderStarted",
		"IdvPageUrlRequested": "IDVPageURLRequested", "CourseAboutPageUrlRequested": "CourseAboutPageURLRequested",
		"ScheduleQuerysetRequested": "ScheduleQuerySetRequested", "AuthoringLmsPageUrlRequested": "LMSPageURLRequested",
		"Other": "Other", "": "", enrollmentCreated: "", "my.filter": "",
	} {
		if got := FilterName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if got := FilterName(strings.ToLower(name)); name != "Other" && got != want {
			t.Errorf("%s in lower case: %s", name, got)
		}
		if want != "" && want != "Other" && FindFilter(want) == nil {
			t.Errorf("%s is not among the plugin's names", want)
		}
	}
}
