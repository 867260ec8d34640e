package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// callable returns what a webfilter is called with: for an event of the bus what its webhooks get, else the object that was given, or,
// without one, an object that has nothing but what the plugin adds to each.
func (a *Admin) callable(e *rule.Entry, t *RuleTest) (payload.Value, error) {
	if !e.Rule.InRequest() {
		message, err := a.message(e.Rule, t)
		if err != nil {
			return payload.Value{}, err
		}
		return message.Payload(), nil
	}
	if t.Event == "" {
		metadata := payload.ObjectValue([]string{"event_type", "time"}, []payload.Value{
			payload.StringValue(e.Rule.EventType), payload.StringValue(SampleTime().Format("2006-01-02T15:04:05.000000-07:00")),
		})
		return payload.ObjectValue([]string{payload.MetadataKey}, []payload.Value{metadata}), nil
	}
	if t.Document == nil {
		return payload.Value{}, eventProblem(t, "there is no such file; give a JSON file of what the plugin sends for "+e.Rule.EventType)
	}
	object, err := payload.ParseJSON(t.Document)
	if err == nil && object.Kind() != payload.Object {
		err = errors.New("the JSON is not an object")
	}
	if err != nil {
		return payload.Value{}, eventProblem(t, err.Error())
	}
	return object, nil
}

// call returns the call that a webfilter gets, which has an id of its own.
func call(e *rule.Entry, sample payload.Value) *delivery.Delivery {
	d := &delivery.Delivery{
		Kind: e.Rule.Kind, RuleID: e.Key.ID, EventType: e.Rule.EventType, Format: e.Rule.Format, Body: payload.Encode(sample, e.Rule.Format),
	}
	_, _ = rand.Read(d.ID[:]) // it never fails
	return d
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
) (*ResultView, error) {
	made := &heard{Sender: daemons, id: d.ID}
	engine, err := webfilter.New(webfilter.Options{Rules: sole{e.Webfilter}, Caller: made, Deadline: noDeadline})
	if err != nil {
		return nil, err
	}
	outcome, err := engine.Run(ctx, &webfilter.Request{
		Filter: e.Rule.EventType, Halting: !e.Rule.InRequest() || webfilter.Halts(e.Rule.EventType),
		Format: d.Format, Body: d.Body, Payload: sample,
	})
	if err != nil {
		return nil, err
	}
	v := &ResultView{
		OK: made.err == nil, Status: made.answer.Status, DurationMS: outcome.Calling.Milliseconds(), Response: responseOf(made.answer.Body),
		FilterAnswer: &FilterAnswer{Data: shownPart(outcome.Data), Exception: shownPart(outcome.Exceptions), Halts: haltedBy(outcome.Halt)},
	}
	if made.err != nil {
		v.Error = string(delivery.ClassOther)
		if failed, ok := errors.AsType[*sender.CallError](made.err); ok {
			v.Error = string(failed.Class)
		}
	}
	return v.because(made.err), nil
}

// haltedBy returns the flag by which a row stopped the chain.
func haltedBy(halt *webfilter.Halt) string {
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

// FilterAnswer is what the answer of a webfilter says, or null.
type FilterAnswer struct {
	Data      json.RawMessage `json:"data"`
	Exception json.RawMessage `json:"exception"`
	Halts     string          `json:"halts"` // the flag by which the row stops the chain, or ""
}

// responseOf returns the beginning of an answer's body.
func responseOf(body []byte) string {
	return strings.ToValidUTF8(string(body[:min(len(body), maxShown)]), "\uFFFD")
}
