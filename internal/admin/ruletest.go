package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
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
	Method  string       `json:"method"`
	URL     string       `json:"url"` // scheme and host unless whole URLs were asked for
	Headers []HeaderView `json:"headers"`
	Body    string       `json:"body"`
	// ClientCert is the subject of the client certificate.
	ClientCert string `json:"client_cert,omitempty"`
}

// HeaderView is one of its headers.
type HeaderView struct {
	Name  string `json:"name"`
	Value string `json:"value"`
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
	if err != nil {
		return nil, err
	}
	switch {
	case e.Rule == nil:
		return nil, fmt.Errorf("%s cannot be used: %s", e.Key.Label(), e.Fault)
	case e.Hold != "":
		return nil, fmt.Errorf("nothing can be sent to %s: %s", e.Key.Label(), e.Hold)
	case t.Key.Table == rule.Webfilters:
		sample, err := a.callable(e, t)
		if err != nil {
			return nil, err
		}
		d := call(e, sample)
		return a.try(ctx, e, t, d, func() (*ResultView, error) { return callFilter(ctx, a.o.Sender, e, d, sample) })
	}
	message, err := a.message(e.Rule, t)
	if err != nil {
		return nil, err
	}
	d, err := deliveryOf(e.Rule, message)
	if err != nil || d == nil {
		return &TestView{}, err
	}
	return a.try(ctx, e, t, d, func() (*ResultView, error) {
		attempt, cause := a.o.Sender.Try(ctx, e.Rule, d)
		return viewOf(&attempt).because(cause), nil
	})
}

// try shows the request that the daemon would make of d, and sends it if asked to.
func (a *Admin) try(
	ctx context.Context, e *rule.Entry, t *RuleTest, d *delivery.Delivery, send func() (*ResultView, error),
) (*TestView, error) {
	request, err := a.o.Sender.Preview(ctx, e.Rule, d)
	if err != nil {
		return nil, fmt.Errorf("%s: no request can be made: %w", e.Key.Label(), err)
	}
	v := &TestView{Wanted: true, Target: e.Rule.Target, Request: viewRequest(e.Rule, request.Method, request.Header, d.Body, t.ShowURLs)}
	if t.Send {
		v.Result, err = send()
	}
	return v, err
}

// eventProblem says what is wrong with the event of a test.
func eventProblem(t *RuleTest, reason string) error {
	return &Problem{Field: "event", Reason: fmt.Sprintf("`event` %s: %s", t.Event, reason)}
}

// message returns the event of a test of a rule of the bus.
func (a *Admin) message(r *rule.Rule, t *RuleTest) (*payload.Message, error) {
	name := t.Event
	if name == "" {
		name = r.EventType
	}
	message, err := a.Sample(name)
	if _, unknown := errors.AsType[*Problem](err); !unknown {
		return message, err
	}
	if t.Document == nil {
		return nil, &Problem{
			Field: "event", Reason: fmt.Sprintf("`event` %s: neither a file nor an event that has a sample; give a JSON file of the event", name),
		}
	}
	message, err = a.ReadEvent(t.Document, r.EventType)
	problem, wrong := errors.AsType[*Problem](err)
	switch signal, known := a.o.Catalogue.ByType(r.EventType); {
	case !wrong:
		return message, err
	case problem.Fix == "":
		return nil, eventProblem(t, problem.Reason)
	case known:
		return nil, eventProblem(t, problem.Reason+": webhook-dispatcher events show "+signal.Constant+" prints a sample")
	}
	return nil, eventProblem(t, problem.Reason+": give a JSON file of such an event")
}

// deliveryOf returns what a rule makes of an event, nil where its filter leaves the event out.
func deliveryOf(r *rule.Rule, message *payload.Message) (*delivery.Delivery, error) {
	body, format, wanted, err := plan.Build(r, message)
	if err != nil {
		return nil, fmt.Errorf("rule %d makes no body of this event: %s", r.ID, Printable(err.Error()))
	}
	if !wanted {
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
		v.Headers = append(v.Headers, HeaderView{name, value})
	}
	if access.Certificate != nil && access.Certificate.Leaf != nil {
		v.ClientCert = access.Certificate.Leaf.Subject.String()
	}
	return v
}

// Printable keeps a stranger's text from driving the terminal.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}
