//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestRowsFollowTheirRule changes rules through Django while they have rows waiting. Bodies do not
// change, URLs are read at each attempt, rows of a disabled rule wait, and those of a deleted rule
// are dead-lettered.
func TestRowsFollowTheirRule(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 1)
	django := s.ORM()
	rules := map[string]int{}
	for _, hook := range []string{"moved", "disabled", "deleted", "wrong"} {
		s.On(hook, harness.Answers(500))
		rules[hook] = django.Add(map[string]any{"event": harness.RegistrationRule, "webhook_url": s.URL(hook)})
	}
	d := s.Serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=3s,3s,3s,3s,3s,3s,3s,3s,3s,3s,3s,3s")
	s.Producer.Publish(harness.Registrations, 1, 1, 1)
	for hook, id := range rules {
		harness.Eventually(t, 20*time.Second, "a row of "+hook, func() error {
			return harness.Want("state", s.Row(strconv.Itoa(id)).State, "pending")
		})
	}
	state := func(hook string) harness.Row { return s.Row(strconv.Itoa(rules[hook])) }

	django.Edit(rules["moved"], map[string]any{"webhook_url": s.URL("elsewhere"), "use_www_form_encoding": true})
	django.Edit(rules["disabled"], map[string]any{"enabled": false})
	django.Edit(rules["wrong"], map[string]any{"webhook_url": "ftp://127.0.0.1/"})
	django.Remove(rules["deleted"])
	edited := time.Now()
	harness.Eventually(t, 20*time.Second, "the moved rule's row", func() error {
		return harness.Want("state", state("moved").State, "delivered")
	})
	if old, moved := s.Got("moved")[0], s.Got("elsewhere")[0]; old.ID != moved.ID || old.Body != moved.Body ||
		moved.Header.Get("Content-Type") != "application/json" {
		t.Errorf("after the edit the delivery has another id or body: %s %s", old.ID, moved.ID)
	}
	deleted := harness.Eventually(t, time.Minute, "the deleted rule's row", func() error {
		r := state("deleted")
		return harness.Want("row", fmt.Sprint(r.State, " ", r.Reason), "dead rule_deleted")
	})
	tries := map[string]int{"disabled": s.Count("disabled"), "wrong": s.Count("wrong")}
	harness.Throughout(t, time.Until(edited.Add(10*time.Second)), "rows of rules that cannot be sent", func() error {
		for hook, n := range tries {
			if err := harness.Want("requests of "+hook, s.Count(hook), n); err != nil {
				return err
			}
			if err := harness.Want("state of "+hook, state(hook).State, "pending"); err != nil {
				return err
			}
		}
		return nil
	})
	s.On("disabled", harness.Answers(200))
	s.On("wrong", harness.Answers(200))
	django.Edit(rules["disabled"], map[string]any{"enabled": true})
	django.Edit(rules["wrong"], map[string]any{"webhook_url": s.URL("wrong")})
	again := time.Now()
	for _, hook := range []string{"disabled", "wrong"} {
		harness.Eventually(t, 20*time.Second, hook+" again", func() error {
			return harness.Want("state", state(hook).State, "delivered")
		})
	}
	harness.Figure(t,
		"row of a deleted rule dead after %s; rows sent %s after their rules were good again; stopped in %s",
		deleted, harness.Since(again), d.Terminate())
}
