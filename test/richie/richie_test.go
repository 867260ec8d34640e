//go:build e2e

package richie

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/preset"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender/sendertest"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// given are the values that the preset requires.
var given = map[string]string{"lms-base": "https://lms.example.org/", "languages": "en,fr"}

// ruleFor makes a rule from the preset as `rules add` does, for a portal and with signing secrets.
func ruleFor(t *testing.T, endpoint string, values map[string]string, secrets ...rule.SigningSecret) *rule.Rule {
	t.Helper()
	r, err := preset.ByName("richie")
	if err != nil {
		t.Fatal(err)
	}
	document, err := r.Document(values)
	if err != nil {
		t.Fatal(err)
	}
	options, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	row := rule.Row{ID: 7, Created: time.Unix(1, 0), Event: r.Event, URL: endpoint, Enabled: true}
	parsed, err := rule.ParseDocument(string(options))
	if err != nil {
		t.Fatal(err)
	}
	compiler := rule.Compiler{Catalogue: catalogue}
	made, hold, err := compiler.Compile(row, parsed, rule.Secrets{Signing: secrets})
	if err != nil || hold != "" {
		t.Fatalf("%v, held: %s", err, hold)
	}
	return made
}

// schedule is the dates of a course in the plugin's spelling, "" for none.
type schedule struct{ start, end, enrollmentStart, enrollmentEnd string }

// published returns the event of a published course.
func published(t *testing.T, key string, s schedule) *payload.Message {
	t.Helper()
	text, err := os.ReadFile("../../internal/preset/testdata/richie/minimal.event.json")
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]map[string]any
	if err := json.Unmarshal(text, &body); err != nil {
		t.Fatal(err)
	}
	data := body["openedx_events.content_authoring.data.CourseCatalogData"]
	data["course_key"] = key
	dates := map[string]any{"pacing": "self"}
	for name, at := range map[string]string{
		"start": s.start, "end": s.end, "enrollment_start": s.enrollmentStart, "enrollment_end": s.enrollmentEnd,
	} {
		if dates[name] = at; at == "" {
			dates[name] = nil
		}
	}
	data["schedule_data"] = dates
	if text, err = json.Marshal(body); err != nil {
		t.Fatal(err)
	}
	m, err := payload.ParseMessage(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// send sends the rule's delivery of the event.
func send(t *testing.T, s *sender.Sender, r *rule.Rule, m *payload.Message) delivery.Attempt {
	t.Helper()
	deliveries := plan.Deliveries(m, []*rule.Rule{r})
	if len(deliveries) != 1 || deliveries[0].Format != delivery.FormatJSON {
		t.Fatalf("the rule makes %d deliveries of the event", len(deliveries))
	}
	return s.Send(t.Context(), r, &deliveries[0], 1)
}

func TestCourseRuns(t *testing.T) {
	t.Parallel()
	const secret = "Zoë's secret"
	p := startPortal(t, []string{"DemoX", "Été.1"}, secret)
	s := sendertest.New(t)
	required := ruleFor(t, p.endpoint(), given, rule.SigningSecret{Secret: secret})
	visible := ruleFor(t, p.endpoint(), map[string]string{
		"lms-base": "https://lms.example.org", "languages": "pt-br", "catalog-visibility": "course_only", "course-page": "info/",
	}, rule.SigningSecret{Secret: secret})
	const (
		whole  = "2023-01-31 20:28:10+00:00"
		micros = "2023-07-31 20:28:10.976084+00:00"
		last   = "2024-02-29 23:59:59.000001+00:00"
	)
	for _, c := range []struct {
		name string
		rule *rule.Rule
		key  string
		schedule
		runs int
		want string
	}{
		{
			"new course run", required, "course-v1:edX+DemoX+2023",
			schedule{whole, "", "", ""},
			2,
			"https://lms.example.org/courses/course-v1:edX+DemoX+2023/info 2023-01-31T20:28:10Z null null null [en fr] 0 course_and_search",
		},
		{
			"all dates", required, "course-v1:edX+DemoX+2023",
			schedule{whole, last, micros, last},
			2,
			"https://lms.example.org/courses/course-v1:edX+DemoX+2023/info 2023-01-31T20:28:10Z 2024-02-29T23:59:59.000001Z " +
				"2023-07-31T20:28:10.976084Z 2024-02-29T23:59:59.000001Z [en fr] 0 course_and_search",
		},
		{
			"dates taken back", required, "course-v1:edX+DemoX+2023",
			schedule{},
			2,
			"https://lms.example.org/courses/course-v1:edX+DemoX+2023/info null null null null [en fr] 0 course_and_search",
		},
		{
			"old key", required, "edX/DemoX/2014",
			schedule{micros, "", "", ""},
			4,
			"https://lms.example.org/courses/edX/DemoX/2014/info 2023-07-31T20:28:10.976084Z null null null [en fr] 0 course_and_search",
		},
		{
			"letters of other languages", required, "course-v1:Université+Été.1+a-b~c_中:1",
			schedule{whole, "", "", ""},
			6,
			"https://lms.example.org/courses/course-v1:Université+Été.1+a-b~c_中:1/info 2023-01-31T20:28:10Z null null null " +
				"[en fr] 0 course_and_search",
		},
		{
			"other parameters", visible, "course-v1:edX+DemoX+2024",
			schedule{whole, "", "", ""},
			8,
			"https://lms.example.org/courses/course-v1:edX+DemoX+2024/info/ 2023-01-31T20:28:10Z null null null [pt-br] 0 course_only",
		},
	} {
		a := send(t, s, c.rule, published(t, c.key, c.schedule))
		if a.Status != http.StatusOK || string(a.Response) != `{"success":true}` {
			t.Errorf("%s: status %d, class %q, %s", c.name, a.Status, a.Class, a.Response)
			continue
		}
		runs := p.runs(t)
		if len(runs) != c.runs {
			t.Errorf("%s: %d course runs, want %d, a draft and a public one each", c.name, len(runs), c.runs)
		}
		found := 0
		for i := range runs {
			if got := runs[i].String(); got == c.want {
				found++
			}
		}
		if found != 2 {
			t.Errorf("%s: %d course runs are %s; the last is %s", c.name, found, c.want, &runs[len(runs)-1])
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	p := startPortal(t, []string{"DemoX"}, "the portal's")
	s := sendertest.New(t)
	good := ruleFor(t, p.endpoint(), given, rule.SigningSecret{Secret: "the portal's"})
	access := *good.Access
	access.Signings, access.Unsigned = nil, true
	unsigned := *good
	unsigned.Access = &access
	for _, c := range []struct {
		name   string
		rule   *rule.Rule
		key    string
		status int
		answer string
	}{
		{"another secret", ruleFor(t, p.endpoint(), given, rule.SigningSecret{Secret: "ours"}), "edX/DemoX/1", 401, "Invalid authentication."},
		{"no signature", &unsigned, "edX/DemoX/1", 403, "Missing authentication."},
		{"unknown course", good, "course-v1:edX+OtherX+1", 400, "Unknown course: OTHERX."},
		{"long key", good, "course-v1:edX+DemoX+" + strings.Repeat("1", 200), 400, "no more than 200 characters"},
		{"none of this portal's links", ruleFor(t, p.endpoint(), map[string]string{
			"lms-base": "https://lms.example.org", "languages": "en", "course-page": "course/",
		}, rule.SigningSecret{Secret: "the portal's"}), "edX/DemoX/1", 400, "No LMS configuration found"},
		{"no language of Richie's", ruleFor(t, p.endpoint(), map[string]string{
			"lms-base": "https://lms.example.org", "languages": "zh_CN",
		}, rule.SigningSecret{Secret: "the portal's"}), "edX/DemoX/1", 400, "is not a valid choice"},
	} {
		a := send(t, s, c.rule, published(t, c.key, schedule{}))
		if a.Status != c.status || !strings.Contains(string(a.Response), c.answer) {
			t.Errorf("%s: status %d, class %q, %s", c.name, a.Status, a.Class, a.Response)
		}
	}
	if runs := p.runs(t); len(runs) != 0 {
		t.Errorf("the portal has %d course runs", len(runs))
	}
}
