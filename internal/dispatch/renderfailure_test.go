package dispatch_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/dispatch"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// What rules make of an event is checked in package plan; these are an event and what two of them
// make of it.
const (
	userType    = "org.openedx.learning.student.registration.completed.v1"
	traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	plainBody   = `{"openedx_events.learning.data.UserData": {"id": 4, "is_active": true, "name": "andr\u00e9s"}, "event_metadata": ` +
		`{"event_type": "` + userType + `", "id": "457f0c26", "minorversion": 2, "source": "openedx/lms/web", "sourcehost": "host", ` +
		`"time": "2023-01-31 20:24:32+00:00", "sourcelib": [11, 2, 0]}}`
	cloudEvent = `{"specversion": "1.0", "id": "457f0c26", "source": "openedx/lms/web", "type": "` + userType + `", ` +
		`"time": "2023-01-31T20:24:32Z", "datacontenttype": "application/json", "sourcehost": "host", "minorversion": 2, ` +
		`"sourcelib": "11.2.0", "traceparent": "` + traceparent + `", "data": `
	userData = `{"id": 4, "is_active": true, "name": "andr\u00e9s"}}`
)

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

// made is rule 1 with expressions.
func made(t testing.TB, format delivery.Format, filter, transform string) *rule.Rule {
	t.Helper()
	return &rule.Rule{
		Row: rule.Row{ID: 1, Created: time.Unix(1, 0)}, Kind: delivery.KindWebhook, EventType: userType, Format: format,
		Filter: jq(t, filter), Transform: jq(t, transform),
	}
}

// Failures of a rule are in a row as long as what fails works for no event between them. An event that a good filter leaves out makes no
// delivery, and ends a row all the same; a good filter ends no row of the transform behind it.
func TestInARow(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		format            delivery.Format
		filter, transform string
		want              int // the longest row of 100 events, whose ids count up from 0
	}{
		"a filter that fails for 2 %, and leaves the others out": {0, `if $data.id % 50 == 0 then error("x") else false end`, "", 1},
		"a filter that fails for 2 %, and takes the others":      {0, `if $data.id % 50 == 0 then error("x") else true end`, "", 1},
		"a filter that fails for three of four":                  {0, `if $data.id % 4 == 0 then false else error("x") end`, "", 3},
		"a filter that always fails":                             {0, `error("x")`, "", 100},
		"a transform that always fails":                          {0, "", `error("x")`, 100},
		"a transform that always fails behind a filter":          {0, `true`, `error("x")`, 100},
		"a transform that fails for half the events that the filter takes": {
			0, `$data.id % 2 == 0`, `if $data.id % 4 == 0 then error("x") else 1 end`, 1,
		},
		"a transform that fails for all events that the filter takes": {0, `$data.id % 2 == 0`, `error("x")`, 50},
		"a filter and a transform that fail by turns": {
			0, `if $data.id % 2 == 0 then error("x") else true end`, `error("x")`, 50,
		},
		"a transform whose result cannot be sent": {delivery.FormatForm, "", `[1]`, 100},
	} {
		run(t, func(t *testing.T, w *world, d *dispatch.Dispatcher) {
			r := made(t, tc.format, tc.filter, tc.transform)
			w.shaped = map[int32]rule.Rule{1: *r}
			w.endpoints[1] = func(context.Context, *delivery.Delivery, int) delivery.Attempt { return delivery.Attempt{Status: 200} }
			longest := 0
			for i := range 100 {
				m := &payload.Message{Event: event.Event{Type: userType, ID: fmt.Sprint(i)}}
				data, err := payload.ParseJSON(fmt.Appendf(nil, `{"c": {"id": %d}}`, i))
				if err != nil {
					t.Fatal(err)
				}
				m.Data = data
				for _, planned := range plan.Deliveries(m, []*rule.Rule{r}) {
					w.first(d, planned)
				}
				pass(time.Second)
				for _, h := range d.Health() {
					longest = max(longest, h.RenderFailures)
				}
			}
			if longest != tc.want {
				t.Errorf("%s: %d in a row, want %d", name, longest, tc.want)
			}
			mended := *made(t, tc.format, "true", `{}`)
			w.mu.Lock() // the sweeper asks for rules
			w.shaped[1] = mended
			w.mu.Unlock()
			for _, h := range d.Health() {
				if h.RenderFailures != 0 {
					t.Errorf("%s: %d in a row with other expressions", name, h.RenderFailures)
				}
			}
		})
	}
}
