package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// RuleTest asks for the request that a rule makes of an event.
type RuleTest struct {
	Key rule.Key
	// Event is the constant or type of an event of which there is a sample, or the name of Document; "" for a sample of the rule's own.
	Event string
	// Document is the event as JSON, nil where Event names a sample.
	Document []byte
	ShowURLs bool // show whole URLs and the credentials in them
	Send     bool // send the request, once
}

// TestView is the request that a rule makes of an event, and what came of sending it.
type TestView struct {
	Wanted  bool         `json:"wanted"`           // false: the rule's filter leaves the event out
	Request *RequestView `json:"request"`          // null where the event is left out
	Result  *ResultView  `json:"result,omitempty"` // where it was sent
	// Target is scheme and host of the rule's URL.
	Target string `json:"-"`
}

// RequestView is the request.
type RequestView struct {
	Method  string   `json:"method"`
	URL     string   `json:"url"` // scheme and host unless whole URLs were asked for
	Headers []Header `json:"headers"`
	Body    string   `json:"body"`
	// ClientCert is the subject of the client certificate.
	ClientCert string `json:"client_cert,omitempty"`
}

// ResultView is the answer, or why there was none.
type ResultView struct {
	OK     bool   `json:"ok"`
	Status int    `json:"status"` // 0 where no answer came
	Error  string `json:"error"`  // why none came, or not all of it, or ""
	Detail string `json:"detail"` // more about that, or ""
	// TokenServer is scheme and host of the authorization server where the error is about it.
	TokenServer string `json:"token_server,omitempty"`
	DurationMS  int64  `json:"duration_ms"`
	Response    string `json:"response"` // the beginning of the answer's body
	*FilterAnswer
}

// maxShown is how many bytes of an answer are shown.
const maxShown = 1024

func viewOf(a *delivery.Attempt) *ResultView {
	return &ResultView{
		OK: a.OK(), Status: a.Status, Error: string(a.Class), DurationMS: a.Duration.Milliseconds(),
		Response: responseOf(a.Response),
	}
}

// because adds what the sender knows about a failure, and returns the view.
func (v *ResultView) because(err error) *ResultView {
	if failed, ok := errors.AsType[*sender.CallError](err); ok {
		v.Detail, v.TokenServer = failed.Detail, failed.TokenServer
	}
	return v
}

// TestRule shows the request that a rule makes of an event, and sends it if asked to, as the daemon would.
func (a *Admin) TestRule(ctx context.Context, t *RuleTest) (*TestView, error) {
	e, err := a.entry(ctx, t.Key)
	switch {
	case err != nil:
		return nil, err
	case e.Rule == nil:
		return nil, fmt.Errorf("%s cannot be used: %s", e.Key.Label(), e.Fault)
	case e.Hold != "":
		return nil, fmt.Errorf("nothing can be sent to %s: %s", e.Key.Label(), e.Hold)
	}
	called := t.Key.Table == rule.Webfilters
	var d *delivery.Delivery
	var sample payload.Value // of a webfilter
	if !called {
		d, err = a.deliveryOf(e.Rule, t)
	} else if sample, err = a.callable(e, t); err == nil {
		d = &delivery.Delivery{
			Kind: e.Rule.Kind, RuleID: e.Key.ID, EventType: e.Rule.EventType, Format: e.Rule.Format, Body: payload.Encode(sample, e.Rule.Format),
		}
		_, _ = rand.Read(d.ID[:]) // each call has an id of its own; this never fails
	}
	switch {
	case err != nil:
		return nil, err
	case d == nil:
		return &TestView{}, nil
	}
	request, err := a.o.Sender.Preview(ctx, e.Rule, d)
	if err != nil {
		return nil, fmt.Errorf("%s: no request can be made: %w", e.Key.Label(), err)
	}
	v := &TestView{Wanted: true, Target: e.Rule.Target, Request: viewRequest(e.Rule, request.Method, request.Header, d.Body, t.ShowURLs)}
	if t.Send && called {
		v.Result, err = callFilter(ctx, a.o.Sender, e, d, sample)
	} else if t.Send {
		attempt, cause := a.o.Sender.Try(ctx, e.Rule, d)
		v.Result = viewOf(&attempt).because(cause)
	}
	return v, err
}

// eventProblem says what is wrong with the event of a test.
func eventProblem(name, reason string) error {
	return &Problem{Field: "event", Reason: fmt.Sprintf("`event` %s: %s", name, reason)}
}

// message returns the event of a test of a rule of the bus.
func (a *Admin) message(r *rule.Rule, t *RuleTest) (*payload.Message, error) {
	name := cmp.Or(t.Event, r.EventType)
	message, err := a.Sample(name)
	if _, unknown := errors.AsType[*Problem](err); !unknown {
		return message, err
	}
	if t.Document == nil {
		return nil, eventProblem(name, "neither a file nor an event that has a sample; give a JSON file of the event")
	}
	message, err = a.ReadEvent(t.Document, r.EventType)
	if problem, wrong := errors.AsType[*Problem](err); wrong {
		problem.Reason = fmt.Sprintf("`event` %s: %s", t.Event, problem.Reason)
	}
	return message, err
}

// deliveryOf returns what a rule makes of the event, nil where its filter leaves the event out.
func (a *Admin) deliveryOf(r *rule.Rule, t *RuleTest) (*delivery.Delivery, error) {
	message, err := a.message(r, t)
	if err != nil {
		return nil, err
	}
	body, format, wanted, err := plan.Build(r, message)
	switch {
	case err != nil:
		return nil, fmt.Errorf("rule %d makes no body of this event: %s", r.ID, Printable(err.Error()))
	case !wanted:
		return nil, nil
	}
	ev := &message.Event
	return &delivery.Delivery{
		ID:   delivery.NewID(ev.Source, ev.ID, ev.Type, r.Kind, r.ID, r.Created),
		Kind: r.Kind, RuleID: r.ID, EventType: ev.Type, EventID: ev.ID, EventTime: ev.Time,
		Format: format, Body: body, Traceparent: ev.Traceparent,
	}, nil
}

// ownHeaders are the headers that are no option of a rule, in the order to show them.
var ownHeaders = [...]string{
	"Content-Type", "Accept", "User-Agent", "Authorization", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Traceparent",
}

// viewRequest shows a request. Of a secret of the rule it shows the beginning at most, of credentials in the URL nothing unless asked to.
func viewRequest(r *rule.Rule, method string, header map[string][]string, body []byte, showURLs bool) *RequestView {
	v := &RequestView{Method: method, URL: r.Target, Body: string(body)}
	if showURLs {
		v.URL = r.URL
	}
	access := r.Access
	if access == nil {
		access = new(rule.Access)
	}
	names := slices.Sorted(maps.Keys(header))
	names = append(ownHeaders[:], slices.DeleteFunc(names, func(name string) bool { return slices.Contains(ownHeaders[:], name) })...)
	for _, name := range names {
		if len(header[name]) == 0 || header[name][0] == "" {
			continue
		}
		value := header[name][0]
		_, own := access.Header[name]
		switch scheme, _, found := strings.Cut(value, " "); {
		case own && name != rule.HopHeader:
			value = Beginning(value)
		case name != "Authorization" || !found || access.OAuth2 != nil:
		case access.Authorization != "" || !showURLs:
			value = scheme + " …"
		}
		if strings.HasPrefix(name, "Webhook-") {
			name = strings.ToLower(name)
		}
		v.Headers = append(v.Headers, Header{name, value})
	}
	if access.Certificate != nil && access.Certificate.Leaf != nil {
		v.ClientCert = access.Certificate.Leaf.Subject.String()
	}
	return v
}

// Cell makes a stranger's text safe for one cell of a table or a place within a sentence: "-" for
// none, and quoted if it could break the line or control a terminal.
func Cell(text string) string {
	switch {
	case text == "":
		return "-"
	case !utf8.ValidString(text), strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return strconv.Quote(text)
	}
	return text
}

// Printable keeps a stranger's text of several lines from driving the terminal.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

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
		return payload.Value{}, eventProblem(t.Event, "there is no such file; give a JSON file of what the plugin sends for "+e.Rule.EventType)
	}
	object, err := payload.ParseJSON(t.Document)
	if err == nil && object.Kind() != payload.Object {
		err = errors.New("the JSON is not an object")
	}
	if err != nil {
		return payload.Value{}, eventProblem(t.Event, err.Error())
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
