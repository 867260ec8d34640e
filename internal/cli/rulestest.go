package cli

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

type testCommand struct {
	config.Database
	config.Rules
	config.Secrets
	config.Sending
	kindFlag
	showFlags

	ID    int32  `arg:"" help:"The rule's id."`
	Event string `placeholder:"FILE|SAMPLE" help:"JSON file, or an event whose sample to take; the rule's own by default."`
	Send  bool   `help:"Send the request, once."`
}

// Run shows the request that the rule makes of an event, and sends it if asked to.
func (c *testCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database, &c.Rules, &c.Secrets, &c.Sending); err != nil {
		return err
	}
	rules, err := s.rules(ctx, &ruleSettings{c.Database, c.Rules, c.Secrets, schemeSetting{c.SigningScheme}})
	if err != nil {
		return err
	}
	e, err := rules.entry(c.key(c.ID))
	if err != nil {
		return err
	}
	switch {
	case e.Rule == nil:
		return fmt.Errorf("%s cannot be used: %s", e.Key.Label(), e.Fault)
	case e.Hold != "":
		return fmt.Errorf("nothing can be sent to %s: %s", e.Key.Label(), e.Hold)
	case c.filters():
		return c.testFilter(ctx, s, e, rules.compiler.Catalogue)
	}
	message, err := testMessage(c.Event, e.Rule, rules.compiler.Catalogue)
	if err != nil {
		return usageError{err}
	}
	d, err := c.delivery(e.Rule, message)
	if err != nil {
		return err
	}
	if d == nil {
		return s.printTest(&testView{}, c.JSON)
	}
	return c.try(ctx, s, e, d, "did not take the delivery", func(daemons *sender.Sender) (*resultView, error) {
		attempt, cause := daemons.Try(ctx, e.Rule, d)
		return viewOf(&attempt).because(cause), nil
	})
}

// try shows the request that the daemon would make of d, and sends it if asked to. failed says in the error what the endpoint did not do.
func (c *testCommand) try(
	ctx context.Context, s *session, e *rule.Entry, d *delivery.Delivery, failed string, send func(*sender.Sender) (*resultView, error),
) error {
	daemons, closeIdle, err := c.sender(s)
	if err != nil {
		return err
	}
	defer closeIdle()
	request, err := daemons.Preview(ctx, e.Rule, d)
	if err != nil {
		return fmt.Errorf("%s: no request can be made: %w", e.Key.Label(), err)
	}
	result := testView{Wanted: true, Request: c.view(e, request, d)}
	if c.Send {
		if result.Result, err = send(daemons); err != nil {
			return err
		}
	}
	if err := s.printTest(&result, c.JSON); err != nil {
		return err
	}
	if r := result.Result; r != nil && !r.OK {
		return fmt.Errorf("%s: %s %s", e.Key.Label(), e.Rule.Target, failed)
	}
	return nil
}

// delivery returns what the rule makes of the event, nil where its filter leaves the event out.
func (c *testCommand) delivery(r *rule.Rule, message *payload.Message) (*delivery.Delivery, error) {
	body, format, wanted, err := plan.Build(r, message)
	if err != nil {
		return nil, fmt.Errorf("rule %d makes no body of this event: %s", r.ID, printable(err.Error()))
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

// sender returns the sender that the daemon uses, egress guard and client certificates included.
func (c *testCommand) sender(s *session) (_ *sender.Sender, closeIdle func(), err error) {
	cfg := config.Default()
	cfg.Sending = c.Sending
	return app.NewSender(&cfg, sender.Options{Version: s.build().Version})
}

// ownHeaders are the headers that are no option of a rule, in the order to show them.
var ownHeaders = [...]string{
	"Content-Type", "Accept", "User-Agent", "Authorization", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Traceparent",
}

// view shows a request. Of what is a rule's secret it shows the beginning at most, of credentials in the URL nothing unless asked to.
func (c *testCommand) view(e *rule.Entry, request *http.Request, d *delivery.Delivery) *requestView {
	r := e.Rule
	v := &requestView{Method: request.Method, URL: r.Target, Body: string(d.Body)}
	if c.ShowURLs {
		v.URL = r.URL
	}
	access := r.Access
	if access == nil {
		access = new(rule.Access)
	}
	names := slices.Sorted(maps.Keys(request.Header))
	names = append(ownHeaders[:], slices.DeleteFunc(names, func(name string) bool { return slices.Contains(ownHeaders[:], name) })...)
	for _, name := range names {
		value := request.Header.Get(name)
		if value == "" {
			continue
		}
		_, own := access.Header[name]
		switch scheme, _, found := strings.Cut(value, " "); {
		case own && name != rule.HopHeader:
			value = beginning(value)
		case name != "Authorization" || !found || access.OAuth2 != nil:
		case access.Authorization != "" || !c.ShowURLs:
			value = scheme + " …"
		}
		if strings.HasPrefix(name, "Webhook-") {
			name = strings.ToLower(name)
		}
		v.Headers = append(v.Headers, headerView{name, value})
	}
	if access.Certificate != nil && access.Certificate.Leaf != nil {
		v.ClientCert = access.Certificate.Leaf.Subject.String()
	}
	return v
}
