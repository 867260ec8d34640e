package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

const userType = "org.openedx.learning.student.registration.completed.v1"

func userMessage(t testing.TB) *payload.Message {
	t.Helper()
	data, err := payload.ParseJSON([]byte(
		`{"openedx_events.learning.data.UserData": {"id": 4, "is_active": true, "token": "secret", "name": "andrés"}}`))
	if err != nil {
		t.Fatal(err)
	}
	return &payload.Message{Data: data, Event: event.Event{
		Type: userType, ID: "457f0c26", Source: "openedx/lms/web", SourceHost: "host", MinorVersion: 2,
		Time: time.Date(2023, 1, 31, 20, 24, 32, 0, time.UTC), SourceLib: []int64{11, 2, 0}, Traceparent: traceparent,
	}}
}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func jq(t testing.TB, text string) *expression.Program {
	t.Helper()
	if text == "" {
		return nil
	}
	p, err := expression.Compile(text, payload.Value{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// made is a rule with the options that make bodies.
func made(t testing.TB, id int32, shape payload.Shape, format delivery.Format, filter, transform string) *rule.Rule {
	t.Helper()
	return &rule.Rule{
		Row: rule.Row{ID: id, Created: time.Unix(1, 0)}, Kind: delivery.KindWebhook, EventType: userType, Shape: shape, Format: format,
		Filter: jq(t, filter), Transform: jq(t, transform),
	}
}

const (
	plainBody = `{"openedx_events.learning.data.UserData": {"id": 4, "is_active": true, "name": "andr\u00e9s"}, "event_metadata": ` +
		`{"event_type": "` + userType + `", "id": "457f0c26", "minorversion": 2, "source": "openedx/lms/web", "sourcehost": "host", ` +
		`"time": "2023-01-31 20:24:32+00:00", "sourcelib": [11, 2, 0]}}`
	cloudEvent = `{"specversion": "1.0", "id": "457f0c26", "source": "openedx/lms/web", "type": "` + userType + `", ` +
		`"time": "2023-01-31T20:24:32Z", "datacontenttype": "application/json", "sourcehost": "host", "minorversion": 2, ` +
		`"sourcelib": "11.2.0", "traceparent": "` + traceparent + `", "data": `
	standard = `{"type": "` + userType + `", "timestamp": "2023-01-31T20:24:32Z", "data": `
	userData = `{"id": 4, "is_active": true, "name": "andr\u00e9s"}}`
)

// What one rule sends of an event: the body and its format, "" where it sends nothing. Whatever fails is the event itself, for later.
// A rule that is paused because its expressions fail costs nothing more: its events are kept as they are.
func TestPlanForARuleThatRests(t *testing.T) {
	t.Parallel()
	r := made(t, 1, payload.ShapePlugin, delivery.FormatJSON, "def f: f; f", "")
	r.Resting = true
	begun := time.Now()
	for range 20 {
		planned := plan.Deliveries(userMessage(t), []*rule.Rule{r})
		if len(planned) != 1 || planned[0].Format != delivery.FormatEvent || string(planned[0].Body) != plainBody {
			t.Fatalf("planned %+v, want the event itself", planned)
		}
	}
	if took := time.Since(begun); took > 500*time.Millisecond { // one run takes 50 ms
		t.Errorf("it took %s", took)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	const (
		plugin, cloud, std      = payload.ShapePlugin, payload.ShapeCloudEvents, payload.ShapeStandard
		inJSON, inForm, inCloud = delivery.FormatJSON, delivery.FormatForm, delivery.FormatCloudEvents
		asEvent                 = delivery.FormatEvent
	)
	unread := &rule.Rule{Kind: delivery.KindWebhook, Unread: true, Format: inForm}
	for name, tc := range map[string]struct {
		rule   *rule.Rule
		format delivery.Format
		body   string
		fails  string
	}{
		"plain":                     {made(t, 1, plugin, inJSON, "", ""), inJSON, plainBody, ""},
		"cloudevents":               {made(t, 1, cloud, inCloud, "", ""), inCloud, cloudEvent + userData, ""},
		"standard":                  {made(t, 1, std, inJSON, "", ""), inJSON, standard + userData, ""},
		"filter":                    {made(t, 1, plugin, inJSON, "$data.is_active", ""), inJSON, plainBody, ""},
		"filter says no":            {made(t, 1, plugin, inJSON, "$data.is_active | not", ""), 0, "", ""},
		"filter says nothing":       {made(t, 1, plugin, inJSON, "empty", "error"), 0, "", ""},
		"filter fails":              {made(t, 1, cloud, inCloud, "$data.name", ""), asEvent, plainBody, "the filter returned a string"},
		"transform":                 {made(t, 1, plugin, inJSON, "", `{text: "new: \($data.name)"}`), inJSON, `{"text": "new: andr\u00e9s"}`, ""},
		"transform to a list":       {made(t, 1, plugin, inJSON, "", "[$data.id]"), inJSON, `[4]`, ""},
		"transform, cloudevents":    {made(t, 1, cloud, inCloud, "", "$data.id"), inCloud, cloudEvent + "4}", ""},
		"transform, standard":       {made(t, 1, std, inJSON, "true", "{a: $event.id}"), inJSON, standard + `{"a": "457f0c26"}}`, ""},
		"transform to a form":       {made(t, 1, plugin, inForm, "", `{a: {b: $data.name}}`), inForm, "a_b=andr%C3%A9s", ""},
		"transform to no form":      {made(t, 1, plugin, inForm, "", `[1]`), asEvent, plainBody, "the transform must return an object"},
		"transform fails":           {made(t, 1, plugin, inJSON, "true", ".[0]"), asEvent, plainBody, "the transform failed: expected an array"},
		"transform has no result":   {made(t, 1, plugin, inJSON, "", "empty"), asEvent, plainBody, "the transform returned no result"},
		"transform makes too much":  {made(t, 1, plugin, inJSON, "", `"é" * 200000`), asEvent, plainBody, "the transform makes a body of 1"},
		"transform makes just less": {made(t, 1, plugin, inJSON, "", `"x" * 1048574`), inJSON, `"` + strings.Repeat("x", 1048574) + `"`, ""},
		"options cannot be read":    {unread, asEvent, plainBody, "the options of the rule cannot be read"},
	} {
		m := userMessage(t)
		planned := plan.Deliveries(m, []*rule.Rule{tc.rule})
		body, format, wanted, err := plan.Build(tc.rule, m)
		if tc.body == "" {
			if len(planned) != 0 || wanted || err != nil {
				t.Errorf("%s: planned %v, built %v, %v; want nothing", name, planned, wanted, err)
			}
			continue
		}
		if len(planned) != 1 || string(planned[0].Body) != tc.body || planned[0].Format != tc.format {
			t.Errorf("%s:\n got %.400s\nwant %.400s", name, fmt.Sprintf("%+v", planned), tc.body)
			continue
		}
		d := &planned[0]
		if d.ID != delivery.NewID("openedx/lms/web", "457f0c26", userType, delivery.KindWebhook, tc.rule.ID, tc.rule.Created) ||
			d.RuleID != tc.rule.ID || d.Kind != delivery.KindWebhook || d.EventType != userType || d.EventID != "457f0c26" ||
			!d.EventTime.Equal(m.Event.Time) || d.Traceparent != traceparent {
			t.Errorf("%s: %+v", name, d)
		}
		switch {
		case tc.fails != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.fails)):
			t.Errorf("%s: %v, want the error %s…", name, err, tc.fails)
		case tc.fails == "" && (err != nil || !wanted || string(body) != tc.body || format != tc.format):
			t.Errorf("%s: built %s, %v, %v, %v", name, body, format, wanted, err)
		}
	}
}

// A failure knows its stage, and whether the expression was stopped.
func TestRenderFailure(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		filter, transform string
		stage             delivery.Stage
		tooLong           bool
	}{
		{"until(false; .)", "", delivery.StageFilter, true},
		{"true", "until(false; .)", delivery.StageTransform, true},
		{"true", `error("x")`, delivery.StageTransform, false},
	} {
		r := made(t, 1, payload.ShapePlugin, delivery.FormatJSON, tc.filter, tc.transform)
		_, _, _, err := plan.Build(r, userMessage(t))
		if what := plan.RenderFailure(err); err == nil || what.Stage != tc.stage || what.TooLong != tc.tooLong {
			t.Errorf("%s, %s: %+v, %v", tc.filter, tc.transform, what, err)
		}
	}
}

// Rules that send the same share its bytes, and these count once.
func TestPlanSharesBodies(t *testing.T) {
	t.Parallel()
	var rules []*rule.Rule
	for i := range int32(3) {
		rules = append(
			rules,
			made(t, 10*i, payload.ShapePlugin, delivery.FormatJSON, "", ""),
			made(t, 10*i+1, payload.ShapePlugin, delivery.FormatForm, "true", ""),
			made(t, 10*i+2, payload.ShapeCloudEvents, delivery.FormatCloudEvents, "", ""),
			made(t, 10*i+3, payload.ShapeStandard, delivery.FormatJSON, "", ""),
			made(t, 10*i+4, payload.ShapeStandard, delivery.FormatJSON, "", "error"), // the event: the plain body
			made(t, 10*i+5, payload.ShapePlugin, delivery.FormatJSON, "", "{a: 1}"),  // its own
		)
	}
	planned := plan.Deliveries(userMessage(t), rules)
	if len(planned) != len(rules) {
		t.Fatalf("%d deliveries, want %d", len(planned), len(rules))
	}
	distinct := make(map[*byte]int64)
	for i := range planned {
		distinct[&planned[i].Body[0]] = int64(len(planned[i].Body))
	}
	if len(distinct) != 4+3 {
		t.Errorf("%d bodies, want one for each of four ways and three of transforms", len(distinct))
	}
	if &planned[0].Body[0] != &planned[4].Body[0] {
		t.Error("the event of a failed transform is not the plain body")
	}
	overhead := plan.MemoryCost(make([]delivery.Delivery, len(planned)))
	want := overhead
	for _, bytes := range distinct {
		want += bytes
	}
	if got := plan.MemoryCost(planned); got != want || overhead <= 0 {
		t.Errorf("footprint %d, want %d", got, want)
	}
	if plan.Deliveries(userMessage(t), nil) != nil || plan.MemoryCost(nil) != 0 {
		t.Error("something of nothing")
	}
}

// An adopted rule takes no events of the time before.
func TestPlanLeavesOutOtherTimes(t *testing.T) {
	t.Parallel()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	m := userMessage(t)
	created := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	var rows []rule.Row
	var options []rule.Option
	for id, adopted := range map[int32]time.Time{1: m.Event.Time.Add(-time.Hour), 2: m.Event.Time.Add(time.Hour)} {
		rows = append(rows, rule.Row{ID: id, Created: created, Event: "STUDENT_REGISTRATION_COMPLETED", URL: "https://h.example/"})
		options = append(options, rule.Option{
			Key: rule.Key{Table: rule.Webhooks, ID: id}, RuleCreated: created, Enabled: true, AdoptedAt: adopted,
		})
	}
	snapshot := rule.NewSnapshot(rule.Tables{Webhooks: rows, Options: options}, &rule.Compiler{Catalogue: catalogue, Adopted: true})
	matched := snapshot.Match(userType)
	planned := plan.Deliveries(m, matched)
	if len(matched) != 2 || len(planned) != 1 || planned[0].RuleID != 1 {
		t.Errorf("%d rules, planned %v; want rule 1 of two", len(matched), planned)
	}
}

// The plain path costs the list of deliveries and one body, however many rules there are.
func TestPlanAllocations(t *testing.T) {
	m := userMessage(t)
	body := testing.AllocsPerRun(100, func() { m.Body(delivery.FormatJSON) })
	for _, n := range []int{1, 100} {
		rules := make([]*rule.Rule, n)
		for i := range rules {
			rules[i] = made(t, int32(i), payload.ShapePlugin, delivery.FormatJSON, "", "")
		}
		if got := testing.AllocsPerRun(100, func() { plan.MemoryCost(plan.Deliveries(m, rules)) }); got != body+1 {
			t.Errorf("%v allocations for %d rules, want %v for the body and one", got, n, body)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	m := userMessage(b)
	for _, tc := range []struct {
		filter, transform string
		rules             int
	}{{"", "", 1}, {"", "", 1000}, {"$data.is_active", "", 1}, {"$data.is_active", "", 1000}, {"", "{user: $data.name}", 1}} {
		b.Run(fmt.Sprintf("%d rules %s %s", tc.rules, tc.filter, tc.transform), func(b *testing.B) {
			rules := make([]*rule.Rule, tc.rules)
			for i := range rules {
				rules[i] = made(b, int32(i), payload.ShapePlugin, delivery.FormatJSON, tc.filter, tc.transform)
			}
			b.ReportAllocs()
			for b.Loop() {
				plan.MemoryCost(plan.Deliveries(m, rules))
			}
		})
	}
}
