package cli

import (
	"context"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

type rotateCommand struct {
	config.Database
	config.Secrets
}

// Run seals the secrets of all rules with the first key.
func (c *rotateCommand) Run(ctx context.Context, s *session) error {
	if err := s.settings(ctx, &c.Database, &c.Secrets); err != nil {
		return err
	}
	keys, err := rule.ParseKeys(c.SecretsKey.Reveal())
	if err != nil {
		return err
	}
	return s.withAdmin(&c.Database, admin.Options{Keys: keys}, func(a *admin.Admin) error {
		view, err := a.RotateKeys(ctx)
		if view == nil {
			return err
		}
		fmt.Fprintf(s.Stdout, "the secrets of %s sealed again, with the key %s\n", counted(view.Rules, "rule were", "rules were"), view.KeyID)
		if err != nil {
			return fmt.Errorf("some secrets cannot be opened and stay as they are: keep their key then, wherever it is set: %w", err)
		}
		_, err = fmt.Fprintf(s.Stdout, "all secrets are sealed with the key %s: other keys can be removed from WEBHOOK_DISPATCHER_SECRETS_KEY "+
			"wherever it is set\n", view.KeyID)
		return err
	})
}
