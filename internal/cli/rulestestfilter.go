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

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	filterengine "github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// testFilter shows the call that a webfilter row gets, and makes it if asked to.
func (c *testCommand) testFilter(ctx context.Context, s *session, e *rule.Entry, catalogue *schema.Catalogue) error {
	sample, err := c.filterPayload(e, catalogue)
	if err != nil {
		return usageError{err}
	}
	d := &delivery.Delivery{
		Kind: e.Key.Lane().Kind, RuleID: e.Key.ID, EventType: e.Rule.EventType, Format: e.Rule.Format,
		Body: payload.Encode(sample, e.Rule.Format),
	}
	_, _ = rand.Read(d.ID[:]) // it never fails; a call has an id of its own
	return c.try(ctx, s, e, d, "gave no answer", func(daemons *sender.Sender) (*resultView, error) {
		return callFilter(ctx, daemons, e, d, sample)
	})
}

// filterPayload returns what the row is called with: for an event of the bus what its webhooks get, else the file's object, or, without
// one, an object that has nothing but what the plugin adds to each.
func (c *testCommand) filterPayload(e *rule.Entry, catalogue *schema.Catalogue) (payload.Value, error) {
	if !inRequest(e) {
		message, err := testMessage(c.Event, e.Rule, catalogue)
		if err != nil {
			return payload.Value{}, err
		}
		return message.Payload(), nil
	}
	if c.Event == "" {
		metadata := payload.ObjectValue([]string{"event_type", "time"}, []payload.Value{
			payload.StringValue(e.Rule.EventType), payload.StringValue(admin.SampleTime().Format("2006-01-02T15:04:05.000000-07:00")),
		})
		return payload.ObjectValue([]string{payload.MetadataKey}, []payload.Value{metadata}), nil
	}
	text, err := os.ReadFile(c.Event)
	if errors.Is(err, fs.ErrNotExist) {
		return payload.Value{}, fmt.Errorf("--event %s: there is no such file; give a JSON file of what the plugin sends for %s",
			c.Event, e.Rule.EventType)
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

// sole is the only row of a filter: that which is tested.
type sole struct{ *rule.Webfilter }

// Webfilters implements webfilter.Rules.
func (f sole) Webfilters(string) []*rule.Webfilter { return []*rule.Webfilter{f.Webfilter} }

// heard makes the one call, under the id that was shown, and keeps what came of it.
type heard struct {
	*sender.Sender

	id     delivery.ID
	answer sender.Answer
	err    error
}

// Call implements webfilter.Caller.
func (h *heard) Call(
	ctx context.Context, r *rule.Rule, _ delivery.ID, format delivery.Format, body []byte, limit int,
) (sender.Answer, error) {
	h.answer, h.err = h.Sender.Call(ctx, r, h.id, format, body, limit)
	return h.answer, h.err
}

// noDeadline is longer than any row's own timeout: who tests a row wants to see its answer.
const noDeadline = time.Hour

// callFilter calls the row by the daemon's engine and says what its answer means.
func callFilter(
	ctx context.Context, daemons *sender.Sender, e *rule.Entry, d *delivery.Delivery, sample payload.Value,
) (*resultView, error) {
	call := &heard{Sender: daemons, id: d.ID}
	engine, err := filterengine.New(filterengine.Options{Rules: sole{e.Webfilter}, Caller: call, Deadline: noDeadline})
	if err != nil {
		return nil, err
	}
	outcome, err := engine.Run(ctx, &filterengine.Request{
		Filter: e.Rule.EventType, Halting: !inRequest(e) || filterengine.Halts(e.Rule.EventType),
		Format: d.Format, Body: d.Body, Payload: sample,
	})
	if err != nil {
		return nil, err
	}
	v := &resultView{
		OK: call.err == nil, Status: call.answer.Status, DurationMS: outcome.Calling.Milliseconds(), Response: responseOf(call.answer.Body),
		filterAnswer: &filterAnswer{Data: shownPart(outcome.Data), Exception: shownPart(outcome.Exceptions), Halts: haltedBy(outcome.Halt)},
	}
	if call.err != nil {
		v.Error = string(delivery.ClassOther)
		if failed, ok := errors.AsType[*sender.CallError](call.err); ok {
			v.Error = string(failed.Class)
		}
	}
	return v.because(call.err), nil
}

// haltedBy returns the flag by which a row stopped the chain.
func haltedBy(halt *filterengine.Halt) string {
	switch {
	case halt == nil:
		return ""
	case halt.Status == 0:
		return "halt_on_request_exception"
	case halt.Status <= 499:
		return "halt_on_4xx"
	}
	return "halt_on_5xx"
}

// shownPart returns what counts of an answer as JSON, nil where there is nothing, or what JSON has no words for.
func shownPart(part payload.Value) json.RawMessage {
	if text := payload.AppendJSON(nil, part); part.Len() > 0 && json.Valid(text) {
		return text
	}
	return nil
}

// filterAnswer is what the answer of a webfilter says, or null.
type filterAnswer struct {
	Data      json.RawMessage `json:"data"`
	Exception json.RawMessage `json:"exception"`
	Halts     string          `json:"halts"` // the flag by which the row stops the chain, or ""
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
