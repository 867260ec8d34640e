package store

import (
	"context"
	"fmt"
)

// SetWebhookEnabled switches a row of the plugin's webhook table on or off, and moves its modified on as Django does. It changes
// nothing, and returns false, where the row stands so already or there is none. It needs an account that may UPDATE there.
func (s *Store) SetWebhookEnabled(ctx context.Context, id int32, enabled bool) (changed bool, err error) {
	what, stands := fmt.Sprintf("disable webhook rule %d", id), "enabled <> 0"
	if enabled {
		what, stands = fmt.Sprintf("enable webhook rule %d", id), "enabled = 0"
	}
	n, err := s.exec(ctx, what, "UPDATE openedx_webhooks_webhook SET enabled = ?, modified = UTC_TIMESTAMP(6) WHERE id = ? AND "+stands,
		tinyintOf(enabled), id)
	if isNumber(err, errTableDenied, errColumnDenied) {
		err = fmt.Errorf("%w: grant UPDATE on openedx_webhooks_webhook to the account", err)
	}
	return n > 0, err
}
