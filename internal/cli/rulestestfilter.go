package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// maxAnswer is how many bytes the answer of a webfilter may have, as for the daemon.
const maxAnswer = 1 << 20

// testFilter shows the call that a webfilter row gets, and makes it if asked to.
func (c *testCommand) testFilter(ctx context.Context, s *session, e *ruleEntry, catalogue *schema.Catalogue) error {
	sample, err := c.filterPayload(e, catalogue)
	if err != nil {
		return usageError{err}
	}
	d := &delivery.Delivery{
		Kind: e.lane.Kind, RuleID: e.lane.RuleID, EventType: e.rule.EventType, Format: e.rule.Format,
		Body: payload.Encode(sample, e.rule.Format),
	}
	_, _ = rand.Read(d.ID[:]) // it never fails; a call has an id of its own
	daemons, closeIdle, err := c.sender(s)
	if err != nil {
		return err
	}
	defer closeIdle()
	request, err := daemons.Preview(ctx, e.rule, d)
	if err != nil {
		return fmt.Errorf("%s: no request can be made: %w", label(e.lane), err)
	}
	result := testView{Wanted: true, Request: c.view(e, request, d)}
	if c.Send {
		result.Result = callFilter(ctx, daemons, e.filter.Filter, d)
	}
	if err := s.printTest(&result, c.JSON); err != nil {
		return err
	}
	if r := result.Result; r != nil && !r.OK {
		return fmt.Errorf("%s: %s gave no answer", label(e.lane), e.rule.Target)
	}
	return nil
}

// filterPayload returns what the row is called with: for an event of the bus what its webhooks get, else the file's object, or, without
// one, an object that has nothing but what the plugin adds to each.
func (c *testCommand) filterPayload(e *ruleEntry, catalogue *schema.Catalogue) (payload.Value, error) {
	if !e.inRequest() {
		message, err := testMessage(c.Event, e.rule, catalogue)
		if err != nil {
			return payload.Value{}, err
		}
		return message.Payload(), nil
	}
	if c.Event == "" {
		metadata := payload.ObjectValue([]string{"event_type", "time"}, []payload.Value{
			payload.StringValue(e.rule.EventType), payload.StringValue(sampleTime().Format("2006-01-02T15:04:05.000000-07:00")),
		})
		return payload.ObjectValue([]string{payload.MetadataKey}, []payload.Value{metadata}), nil
	}
	text, err := os.ReadFile(c.Event)
	if errors.Is(err, fs.ErrNotExist) {
		return payload.Value{}, fmt.Errorf("--event %s: there is no such file; give a JSON file of what the plugin sends for %s",
			c.Event, e.rule.EventType)
	}
	if err != nil {
		return payload.Value{}, err
	}
	object, err := payload.ParseJSON(text)
	if err == nil && object.Kind() != payload.Object {
		err = errors.New("the JSON is no object")
	}
	if err != nil {
		return payload.Value{}, fmt.Errorf("--event %s: %w", c.Event, err)
	}
	return object, nil
}

// callFilter calls the row and says what its answer means.
func callFilter(ctx context.Context, daemons *sender.Sender, f *rule.Filter, d *delivery.Delivery) *resultView {
	began := time.Now()
	answer, err := daemons.Call(ctx, f.Rule, d.ID, d.Format, d.Body, maxAnswer)
	v := &resultView{
		OK: err == nil, Status: answer.Status, DurationMS: time.Since(began).Milliseconds(), Response: responseOf(answer.Body),
		filterAnswer: &filterAnswer{},
	}
	if err != nil {
		v.Error = string(delivery.ClassOther)
		if failed, ok := errors.AsType[*sender.CallError](err); ok {
			v.Error = string(failed.Class)
		}
		if f.HaltOnRequestException {
			v.Halts = "halt_on_request_exception"
		}
		return v
	}
	switch {
	case f.HaltOn4xx && answer.Status/100 == 4:
		v.Halts = "halt_on_4xx"
	case f.HaltOn5xx && answer.Status/100 == 5:
		v.Halts = "halt_on_5xx"
	default:
		v.read(f, answer.Body)
	}
	return v
}

// filterAnswer is what the answer of a webfilter says, or null.
type filterAnswer struct {
	Data      json.RawMessage `json:"data"`
	Exception json.RawMessage `json:"exception"`
	Halts     string          `json:"halts"` // the flag by which the row stops the chain, or ""
}

// read takes what counts of an answer's body: objects, as far as the row's flags leave them in.
func (v *filterAnswer) read(f *rule.Filter, body []byte) {
	said, err := payload.ParseJSON(body)
	if err != nil {
		return
	}
	part := func(name string, disabled bool) json.RawMessage {
		value, ok := said.Get(name)
		if text := payload.AppendJSON(nil, value); ok && !disabled && value.Kind() == payload.Object && json.Valid(text) {
			return text
		}
		return nil
	}
	v.Data, v.Exception = part("data", f.DisableFiltering), part("exception", f.DisableHalt)
}

// said is the answer in lines, "" for a webhook and where nothing counts.
func (v *filterAnswer) said() string {
	if v == nil {
		return ""
	}
	var b strings.Builder
	for _, part := range [...]struct {
		name string
		json []byte
	}{{"data", v.Data}, {"exception", v.Exception}} {
		if part.json != nil {
			fmt.Fprintf(&b, "%s: %s\n", part.name, printable(string(part.json)))
		}
	}
	if v.Halts != "" {
		fmt.Fprintf(&b, "the chain stops here: %s\n", v.Halts)
	}
	return b.String()
}

// responseOf returns the beginning of an answer's body.
func responseOf(body []byte) string {
	return strings.ToValidUTF8(string(body[:min(len(body), maxShown)]), "\uFFFD")
}
