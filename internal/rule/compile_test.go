package rule

import (
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

const enrollmentCreated = "org.openedx.learning.course.enrollment.created.v1"

func catalogue(tb testing.TB) *schema.Catalogue {
	tb.Helper()
	c, err := schema.LoadCatalogue()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func compiler(tb testing.TB) *Compiler {
	tb.Helper()
	return &Compiler{Catalogue: catalogue(tb)}
}

func TestCompile(t *testing.T) {
	t.Parallel()
	events := compiler(t)
	const event, address = "COURSE_ENROLLMENT_CREATED", "https://hooks.example.org/s3cret"
	for _, c := range []struct {
		name, event, url string
		eventType        string // of a good row
		target           string
		fault            string // a part of a bad row's
	}{
		{name: "constant", event: event, url: address, eventType: enrollmentCreated, target: "https://hooks.example.org"},
		{name: "any case", event: "course_Enrollment_created", url: address, eventType: enrollmentCreated, target: "https://hooks.example.org"},
		{name: "spaces behind", event: event + "  ", url: address, eventType: enrollmentCreated, target: "https://hooks.example.org"},
		{
			name: "not the plugin's", event: "LEDGER_TRANSACTION_CREATED", url: address,
			eventType: "org.openedx.enterprise.subsidy_ledger_transaction.created.v1", target: "https://hooks.example.org",
		},
		{
			name: "known type", event: "org.openedx.learning.badge.awarded.v1", url: address,
			eventType: "org.openedx.learning.badge.awarded.v1", target: "https://hooks.example.org",
		},
		{
			name: "unknown type", event: "com.example.custom-thing.v1", url: address,
			eventType: "com.example.custom-thing.v1", target: "https://hooks.example.org",
		},
		{
			name: "user, port, query, fragment", event: event, url: "HTTP://us3r:s3cret@Hooks.Example.org:8443/s3cret?s3cret#s3cret",
			eventType: enrollmentCreated, target: "http://hooks.example.org:8443",
		},
		{name: "IPv6", event: event, url: "http://[::1]:80/", eventType: enrollmentCreated, target: "http://[::1]:80"},
		{name: "spaces before", event: event, url: " \thttps://h/", eventType: enrollmentCreated, target: "https://h"},
		{name: "other script", event: event, url: "https://bücher.example/", eventType: enrollmentCreated, target: "https://bücher.example"},

		{name: "empty event", url: address, fault: "the event is empty"},
		{
			name: "unknown constant", event: "COURSE_ENROLMENT_CREATED", url: address,
			fault: `unknown event "COURSE_ENROLMENT_CREATED": did you mean COURSE_ENROLLMENT_CREATED? webhook-dispatcher events list shows all`,
		},
		{name: "in another case", event: "badge_awrded", url: address, fault: "did you mean BADGE_AWARDED?"},
		{name: "like one that never comes", event: "COURSE_CERTIFICATE_CONFIG_CHANGE", url: address, fault: "write a signal's constant, such as"},
		{
			name: "like none", event: "SOMETHING_ELSE_HAPPENED", url: address,
			fault: "such as COURSE_ENROLLMENT_CREATED; webhook-dispatcher events list shows all",
		},
		{name: "filter", event: "CourseEnrollmentStarted", url: address, fault: "is the name of a filter"},
		{name: "filter of v21", event: "idvpageurlrequested", url: address, fault: "is the name of a filter"},
		{name: "not on the bus", event: "COURSE_CERTIFICATE_CONFIG_CHANGED", url: address, fault: "never comes"},
		{name: "dots only", event: "a..b", url: address, fault: "unknown event"},
		{name: "control character", event: "A\nB", url: address, fault: `unknown event "A\nB"`},
		{name: "long event", event: strings.Repeat("É", 51), url: address, fault: "more than 50 characters"},
		{name: "empty URL", event: event, fault: "the URL is empty"},
		{name: "only spaces", event: event, url: "  ", fault: "the URL is empty"},
		{name: "no scheme", event: event, url: "hooks.example.org/s3cret", fault: "no scheme"},
		{name: "host and port alone", event: event, url: "hooks.example.org:80/s3cret", fault: `scheme "hooks.example.org"`},
		{name: "ftp", event: event, url: "ftp://h/s3cret", fault: `scheme "ftp" cannot take webhooks`},
		{name: "no host", event: event, url: "https:///s3cret", fault: "has no host"},
		{name: "port only", event: event, url: "https://:443/s3cret", fault: "has no host"},
		{name: "opaque", event: event, url: "https:s3cret", fault: "has no host"},
		{name: "port 0", event: event, url: "https://h:0/s3cret", fault: "port"},
		{name: "port too large", event: event, url: "https://h:70000/s3cret", fault: "port"},
		{name: "bad escape", event: event, url: "https://h/%zz/s3cret", fault: "does not parse"},
		{name: "newline", event: event, url: "https://h/\ns3cret", fault: "control characters"},
		{name: "C1 control", event: event, url: "https://h/\u0085s3cret", fault: "control characters"},
		{name: "bidi host", event: event, url: "https://h\u202e.example/s3cret", fault: "characters that no host has"},
		{name: "two hosts", event: event, url: "http://a,b/s3cret", fault: "characters that no host has"},
		{name: "long URL", event: event, url: "https://h/" + strings.Repeat("ä", 246), fault: "more than 255 characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, _, err := events.Compile(Row{ID: 7, Event: c.event, URL: c.url, Enabled: true}, Document{}, Secrets{})
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Fatalf("fault %v, want one with %q", err, c.fault)
				}
				if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
					t.Errorf("the fault shows the URL or breaks the line: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.EventType != c.eventType || r.Target != c.target || r.Kind != delivery.KindWebhook || r.Format != delivery.FormatJSON {
				t.Errorf("got %+v", r)
			}
		})
	}
	r, _, err := events.Compile(Row{Event: event, URL: address, Form: true}, Document{}, Secrets{})
	if err != nil || r.Format != delivery.FormatForm {
		t.Errorf("form: %+v, %v", r, err)
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range [][2]string{
		{"COURSE_CREATED", "https://u:p@h:1/x?y#z"}, {"a.b", "http://[fe80::1%25eth0]/"}, {"", "\x00"}, {"X", "https://%41/"},
	} {
		f.Add(seed[0], seed[1])
	}
	events := compiler(f)
	f.Fuzz(func(t *testing.T, event, address string) {
		r, _, err := events.Compile(Row{Event: event, URL: address}, Document{}, Secrets{})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Errorf("a fault of more than one line: %q", err)
			}
			return
		}
		scheme, host, _ := strings.Cut(r.Target, "://")
		if r.EventType == "" || scheme != "http" && scheme != "https" || host == "" || strings.ContainsAny(host, "/@\n\r ?#") {
			t.Errorf("%q, %q gives %+v", event, address, r)
		}
	})
}

func rows(n int) []Row {
	created := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	list := make([]Row, n)
	for i := range list {
		list[i] = Row{ID: int32(i + 1), Created: created, Event: "COURSE_ENROLLMENT_CREATED", URL: "https://h/", Enabled: true}
	}
	return list
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	list := rows(6)
	list[0], list[4] = list[4], list[0] // ids 5 2 3 4 1 6
	list[1].URL = "ftp://h/"
	list[2].Enabled = false
	list[3].Event = "BADGE_AWARDED"
	list[5].Event, list[5].Enabled = "nonsense", false
	s := NewSnapshot(Tables{Webhooks: list}, compiler(t))
	var got []int32
	for _, r := range s.Match(enrollmentCreated) {
		got = append(got, r.ID)
	}
	if len(got) != 2 || got[0] != 1 || got[1] != 5 {
		t.Errorf("matched %v, want all good rows in id order: 1 5", got)
	}
	const badge = "org.openedx.learning.badge."
	if !s.Wants(badge+"awarded.v1", time.Time{}, time.Time{}) || s.Wants(badge+"revoked.v1", time.Time{}, time.Time{}) || s.Match("x") != nil {
		t.Error("Wants is wrong")
	}
	for id, want := range map[int32]Status{1: Active, 2: Faulty, 3: Disabled, 4: Active, 5: Active, 6: Faulty, 7: Absent} {
		rule, status := s.Lookup(key(id))
		if status != want || (rule != nil) != (want == Active || want == Disabled) {
			t.Errorf("rule %d: %v %v, want %v", id, rule, status, want)
		}
		if (s.Active(key(id)) != nil) != (want == Active) {
			t.Errorf("rule %d: Active is wrong", id)
		}
	}
	if s.Count(Webhooks, Active) != 3 || s.Count(Webhooks, Disabled) != 1 || s.Count(Webhooks, Faulty) != 2 || s.EventTypes() != 2 {
		t.Errorf("counts %v, %d event types", s.webhooks.counts, s.EventTypes())
	}
	for i, e := range s.Entries(Webhooks) {
		if e.Row.ID != int32(i+1) || (e.Fault == "") != (e.Rule != nil) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if !s.same(&Tables{Webhooks: list}) {
		t.Error("the same rows in another order count as a change")
	}
	list[5].Modified = list[5].Modified.Add(time.Second)
	if s.same(&Tables{Webhooks: list}) || s.same(&Tables{Webhooks: list[:5]}) {
		t.Error("a change was not seen")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	s := NewSnapshot(Tables{Webhooks: rows(100)}, compiler(t))
	if n := testing.AllocsPerRun(100, func() {
		if len(s.Match(enrollmentCreated)) != 100 || s.Wants("x", time.Time{}, time.Time{}) {
			t.Error("no match")
		}
	}); n != 0 {
		t.Errorf("a match allocates %v times", n)
	}
}
