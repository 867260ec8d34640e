package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
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
	document, err := c.document()
	if err != nil {
		return err
	}
	cfg := config.Default()
	cfg.Sending = c.Sending
	daemons, closeIdle, err := app.NewSender(&cfg, sender.Options{Version: s.build().Version})
	if err != nil {
		return err
	}
	defer closeIdle()
	rules := &ruleSettings{c.Database, c.Rules, c.Secrets, schemeSetting{c.SigningScheme}}
	compiler, err := rules.compiler()
	if err != nil {
		return err
	}
	return s.withAdmin(&c.Database, admin.Options{Compiler: compiler, Sender: daemons}, func(a *admin.Admin) error {
		test := &admin.RuleTest{Key: c.key(c.ID), Event: c.Event, Document: document, ShowURLs: c.ShowURLs, Send: c.Send}
		view, err := a.TestRule(ctx, test)
		if err != nil {
			return err
		}
		if err := s.printTest(view, c.JSON); err != nil {
			return err
		}
		switch r := view.Result; {
		case r == nil || r.OK:
			return nil
		case c.filters():
			return fmt.Errorf("%s: %s gave no answer", test.Key.Label(), view.Target)
		}
		return fmt.Errorf("%s: %s did not take the delivery", test.Key.Label(), view.Target)
	})
}

// document reads the file that --event may name, nil where there is none: then it may be the name of a sample.
func (c *testCommand) document() ([]byte, error) {
	if c.Event == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.Event)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("--event %s: %w", c.Event, err)
	}
	return text, nil
}

// advice says more about an error: what the sender knows, or else what an operator can do.
func advice(v *admin.ResultView) string {
	switch class := delivery.ErrorClass(v.Error); {
	case v.Detail != "":
		return " (" + admin.Printable(v.Detail) + ")"
	case class == delivery.ClassEgress:
		return " (the address is not allowed; see WEBHOOK_DISPATCHER_EGRESS_ALLOW)"
	case class == delivery.ClassToken:
		return " (the authorization server gave no access token; check the options of auth oauth2)"
	}
	return ""
}

func (p *Process) printTest(v *admin.TestView, asJSON bool) error {
	if asJSON {
		return p.printJSON(v)
	}
	if !v.Wanted {
		_, err := fmt.Fprintln(p.Stdout, "the rule's filter leaves this event out: nothing is sent")
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", v.Request.Method, v.Request.URL)
	for _, h := range v.Request.Headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
	}
	fmt.Fprintf(&b, "\n%s\n", v.Request.Body)
	if v.Request.ClientCert != "" {
		fmt.Fprintf(&b, "\nclient certificate: %s\n", admin.Printable(v.Request.ClientCert))
	}
	if r := v.Result; r != nil {
		took := time.Duration(r.DurationMS) * time.Millisecond
		switch {
		case r.Error == "":
			fmt.Fprintf(&b, "\nanswer: %d after %s\n", r.Status, took)
		case r.Status != 0:
			fmt.Fprintf(&b, "\nanswer: %d, broken off after %s: %s%s\n", r.Status, took, r.Error, advice(r))
		default:
			fmt.Fprintf(&b, "\nno answer: %s after %s%s\n", r.Error, took, advice(r))
		}
		if r.TokenServer != "" {
			fmt.Fprintf(&b, "authorization server: %s\n", admin.Printable(r.TokenServer))
		}
		if r.Response != "" {
			fmt.Fprintln(&b, admin.Printable(r.Response))
		}
		if said := r.FilterAnswer; said != nil {
			printPart(&b, "data", said.Data)
			printPart(&b, "exception", said.Exception)
			if said.Halts != "" {
				fmt.Fprintf(&b, "the chain stops here: %s\n", said.Halts)
			}
		}
	}
	_, err := p.Stdout.Write([]byte(b.String()))
	return err
}

// printPart writes a part of the answer of a webfilter, nothing where it does not count.
func printPart(b *strings.Builder, name string, part []byte) {
	if part != nil {
		fmt.Fprintf(b, "%s: %s\n", name, admin.Printable(string(part)))
	}
}
