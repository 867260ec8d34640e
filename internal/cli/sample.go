package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// testMessage returns the event that name means: a sample of a signal constant or event type, or
// the event in a file; an empty name means a sample of the rule's own.
func testMessage(name string, r *rule.Rule, catalogue *schema.Catalogue) (*payload.Message, error) {
	if name == "" {
		name = r.EventType
	}
	a, err := admin.New(admin.Options{Catalogue: catalogue})
	if err != nil {
		return nil, err
	}
	message, err := a.Sample(name)
	if _, unknown := errors.AsType[*admin.Problem](err); !unknown {
		return message, err
	}
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("--event %s: neither a file nor an event that has a sample; give a JSON file of the event", name)
	case err != nil:
		return nil, fmt.Errorf("--event %s: %w", name, err)
	}
	message, err = a.ReadEvent(text, r.EventType)
	problem, wrong := errors.AsType[*admin.Problem](err)
	switch signal, known := catalogue.ByType(r.EventType); {
	case !wrong:
		return message, err
	case problem.Fix == "":
		return nil, fmt.Errorf("--event %s: %s", name, problem.Reason)
	case known:
		return nil, fmt.Errorf("--event %s: %s: webhook-dispatcher events show %s prints a sample", name, problem.Reason, signal.Constant)
	}
	return nil, fmt.Errorf("--event %s: %s: give a JSON file of such an event", name, problem.Reason)
}
