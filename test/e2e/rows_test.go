//go:build e2e

package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// TestRowsFollowTheirRule changes rules through Django while deliveries of theirs wait as rows: the body is frozen, the URL is read at
// each attempt, a disabled rule's rows wait, a deleted rule's are dead.
func TestRowsFollowTheirRule(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 1)
	django := s.orm()
	rules := map[string]int{}
	for _, hook := range []string{"moved", "disabled", "deleted", "wrong"} {
		s.on(hook, answers(500))
		rules[hook] = django.add(map[string]any{"event": registrationRule, "webhook_url": s.url(hook)})
	}
	d := s.serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=3s,3s,3s,3s,3s,3s,3s,3s,3s,3s,3s,3s")
	s.producer.publish(registrations, 1, 1, 1)
	for hook, id := range rules {
		eventually(t, 20*time.Second, "a row of "+hook, func() error { return want("state", s.row(strconv.Itoa(id)).state, "pending") })
	}
	state := func(hook string) row { return s.row(strconv.Itoa(rules[hook])) }

	django.edit(rules["moved"], map[string]any{"webhook_url": s.url("elsewhere"), "use_www_form_encoding": true})
	django.edit(rules["disabled"], map[string]any{"enabled": false})
	django.edit(rules["wrong"], map[string]any{"webhook_url": "ftp://127.0.0.1/"})
	django.remove(rules["deleted"])
	edited := time.Now()
	eventually(t, 20*time.Second, "the moved rule's row", func() error { return want("state", state("moved").state, "delivered") })
	if old, moved := s.got("moved")[0], s.got("elsewhere")[0]; old.ID != moved.ID || old.Body != moved.Body ||
		moved.Header.Get("Content-Type") != "application/json" {
		t.Errorf("after the edit the delivery has another id or body: %s %s", old.ID, moved.ID)
	}
	deleted := eventually(t, time.Minute, "the deleted rule's row", func() error {
		r := state("deleted")
		return want("row", fmt.Sprint(r.state, " ", r.reason), "dead rule_deleted")
	})
	tries := map[string]int{"disabled": s.count("disabled"), "wrong": s.count("wrong")}
	throughout(t, time.Until(edited.Add(10*time.Second)), "rows of rules that cannot be sent", func() error {
		for hook, n := range tries {
			if err := want("requests of "+hook, s.count(hook), n); err != nil {
				return err
			}
			if err := want("state of "+hook, state(hook).state, "pending"); err != nil {
				return err
			}
		}
		return nil
	})
	s.on("disabled", answers(200))
	s.on("wrong", answers(200))
	django.edit(rules["disabled"], map[string]any{"enabled": true})
	django.edit(rules["wrong"], map[string]any{"webhook_url": s.url("wrong")})
	again := time.Now()
	for _, hook := range []string{"disabled", "wrong"} {
		eventually(t, 20*time.Second, hook+" again", func() error { return want("state", state(hook).state, "delivered") })
	}
	figure(t, "row of a deleted rule dead after %s; rows sent %s after their rules were good again; stopped in %s",
		deleted, since(again), d.terminate())
}
