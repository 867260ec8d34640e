package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

type testCommand struct {
	config.Database
	config.Sending
	kindFlag
	showFlags

	ID    int32  `arg:"" help:"The rule's id."`
	Event string `placeholder:"FILE|SAMPLE" help:"JSON file, or an event whose sample to take; the rule's own by default."`
	Send  bool   `help:"Send the request, once."`
}

// Run shows the request that the rule makes of an event, and sends it if asked to.
func (c *testCommand) Run(ctx context.Context, s *session) error {
	if err := errors.Join(c.check(), s.settings(ctx, &c.Database, &c.Sending)); err != nil {
		return err
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		return err
	}
	rules, err := s.rules(ctx, &c.Database)
	if err != nil {
		return err
	}
	e, err := rules.entry(c.ID)
	if err != nil {
		return err
	}
	if e.Rule == nil {
		return fmt.Errorf("rule %d cannot be used: %s", c.ID, e.Fault)
	}
	message, err := testMessage(c.Event, e.Rule, catalogue)
	if err != nil {
		return usageError{err}
	}
	d := &delivery.Delivery{
		ID:   delivery.NewID(message.Event.Source, message.Event.ID, message.Event.Type, e.Rule.Kind, e.Rule.ID, e.Rule.Created),
		Kind: e.Rule.Kind, RuleID: e.Rule.ID, EventType: message.Event.Type, EventID: message.Event.ID, EventTime: message.Event.Time,
		Format: e.Rule.Format, Body: message.Body(e.Rule.Format), Traceparent: message.Event.Traceparent,
	}
	result := testView{}
	if result.Request, err = c.preview(ctx, s, e.Rule, d); err != nil {
		return err
	}
	if c.Send {
		attempt, err := c.send(ctx, s.build().Version, e.Rule, d)
		if err != nil {
			return err
		}
		result.Result = viewOf(&attempt)
	}
	if err := s.printTest(&result, c.JSON); err != nil {
		return err
	}
	if r := result.Result; r != nil && !r.OK {
		return fmt.Errorf("rule %d: %s did not take the delivery", c.ID, e.Rule.Target)
	}
	return nil
}

// recorder keeps the request that the real sender makes and sends nothing.
type recorder struct{ request *http.Request }

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.request = request
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: request}, nil
}

// preview returns the request as the sender would make it now. What keeps it from making one is logged.
func (c *testCommand) preview(ctx context.Context, s *session, r *rule.Rule, d *delivery.Delivery) (requestView, error) {
	signer, err := sender.NewSigner(c.SigningScheme, c.SigningSecrets()...)
	if err != nil {
		return requestView{}, err
	}
	var seen recorder
	recording, err := sender.New(sender.Options{Transport: &seen, Version: s.build().Version, Signer: signer, Logger: s.log})
	if err != nil {
		return requestView{}, err
	}
	if attempt := recording.Send(ctx, r, d, 1); seen.request == nil {
		return requestView{}, fmt.Errorf("rule %d: no request can be made: %s", r.ID, attempt.Class)
	}
	v := requestView{Method: seen.request.Method, URL: r.Target, Body: string(d.Body)}
	if c.ShowURLs {
		v.URL = r.URL
	}
	for _, name := range []string{
		"Content-Type", "Accept", "User-Agent", "Authorization", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Traceparent",
	} {
		value := seen.request.Header.Get(name)
		if value == "" {
			continue
		}
		if scheme, _, found := strings.Cut(value, " "); name == "Authorization" && found && !c.ShowURLs {
			value = scheme + " …"
		}
		if strings.HasPrefix(name, "Webhook-") {
			name = strings.ToLower(name)
		}
		v.Headers = append(v.Headers, headerView{name, value})
	}
	return v, nil
}

// send makes one attempt with the sender that the daemon uses, egress guard included.
func (c *testCommand) send(ctx context.Context, version string, r *rule.Rule, d *delivery.Delivery) (delivery.Attempt, error) {
	cfg := config.Default()
	cfg.Sending = c.Sending
	daemons, closeIdle, err := app.NewSender(&cfg, sender.Options{Version: version})
	if err != nil {
		return delivery.Attempt{}, err
	}
	defer closeIdle()
	return daemons.Send(ctx, r, d, 1), nil
}
