package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
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
	var view *admin.TestView
	err = s.withAdmin(&c.Database, admin.Options{Compiler: compiler, Sender: daemons}, func(a *admin.Admin) (err error) {
		view, err = a.TestRule(ctx, &admin.RuleTest{
			Key: c.key(c.ID), Event: c.Event, Document: document, ShowURLs: c.ShowURLs, Send: c.Send,
		})
		return err
	})
	if err != nil {
		return err
	}
	if err := s.printTest(view, c.JSON); err != nil {
		return err
	}
	if r := view.Result; r != nil && !r.OK {
		failed := "did not take the delivery"
		if c.filters() {
			failed = "gave no answer"
		}
		return fmt.Errorf("%s: %s %s", c.key(c.ID).Label(), view.Target, failed)
	}
	return nil
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
