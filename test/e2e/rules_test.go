//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestRulesEditedInDjango changes rows through Django's ORM, as its admin pages do, while the real
// publisher keeps sending.
func TestRulesEditedInDjango(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	const refresh = time.Second
	limit := refresh + 2*time.Second
	s.Producer.CreateTopic(harness.Registrations, 3)
	django := s.ORM()
	add := func(event, url string) int { return django.Add(map[string]any{"event": event, "webhook_url": url}) }
	steady := add(harness.RegistrationRule, s.URL("steady"))
	// Wrong rows, which Django's forms may refuse but its tables can hold.
	wrong := map[int]string{
		add(harness.RegistrationRule, "ftp://"+harness.SecretPath+"@127.0.0.1/"+harness.SecretPath): "ftp",
		add("NO_SUCH_EVENT", s.URL("unknown")):                                                      "unknown event",
		add(harness.RegistrationRule, "http://[::1/"+harness.SecretPath):                            "does not parse",
		add(harness.RegistrationRule, ""):                                                           "empty",
		add("CourseEnrollmentStarted", s.URL("filter")):                                             "filter",
	}
	d := s.Serve("WEBHOOK_DISPATCHER_RULES_REFRESH="+refresh.String(), harness.SlowHandOff)
	stream := s.Publish("--type", "student.registration.completed", "--count", "4000", "--rate", "40")
	harness.Eventually(t, 30*time.Second, "the first event", func() error {
		return harness.AtLeast(s.Count("steady"), 1)
	})

	// within returns how long an edit took to work: until a hook got requests, or stopped getting
	// any.
	starts := func(hook string) time.Duration {
		t.Helper()
		return harness.Eventually(t, limit, hook+" gets events", func() error {
			return harness.AtLeast(s.Count(hook), 1)
		})
	}
	stops := func(hook string) {
		t.Helper()
		before, at := s.Count(hook), time.Now()
		harness.Eventually(t, limit, hook+" gets no event any more", func() error {
			if n := s.Count(hook); n != before {
				before, at = n, time.Now()
			}
			return harness.AtLeast(int(time.Since(at)/time.Millisecond), 600) // 24 events of the stream
		})
	}
	added := django.Add(map[string]any{
		"event": strings.ToLower(harness.RegistrationRule), "webhook_url": s.URL("added"), "use_www_form_encoding": true,
	})
	took := []time.Duration{starts("added")}
	django.Edit(added, map[string]any{"webhook_url": s.URL("moved")})
	took = append(took, starts("moved"))
	stops("added")
	django.Edit(added, map[string]any{"enabled": false})
	stops("moved")
	s.On("moved-again", harness.Answers(200))
	django.Edit(added, map[string]any{"enabled": true, "webhook_url": s.URL("moved-again"), "use_www_form_encoding": false})
	took = append(took, starts("moved-again"))
	django.Remove(added)
	stops("moved-again")
	// A wrong row is corrected, and a correct one made wrong.
	django.Edit(steady, map[string]any{"webhook_url": "ftp://127.0.0.1/"})
	stops("steady")
	django.Edit(steady, map[string]any{"webhook_url": s.URL("corrected")})
	took = append(took, starts("corrected"))
	if request := s.Got("added")[0]; request.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || request.Event == "" {
		t.Errorf("the form rule sent %q: %s", request.Header.Get("Content-Type"), request.Body)
	}

	// The commands, with an account that may change rows and with one that may not.
	listed := s.ListRules()
	for id, fault := range wrong {
		if row := listed[id]; !strings.Contains(row.Fault, fault) || row.URL != "" {
			t.Errorf("rules list shows the fault of rule %d as %q (URL %q), want %q in it", id, row.Fault, row.URL, fault)
		}
	}
	id, err := strconv.Atoi(s.Rule("by-command"))
	if err != nil {
		t.Fatal(err)
	}
	took = append(took, starts("by-command"))
	if row := s.ListRules()[id]; row.Fault != "" || !row.Enabled || row.Event != harness.RegistrationRule {
		t.Errorf("rules list shows the added rule as %+v", row)
	}
	if out := s.Run("rules", "rules", "test", strconv.Itoa(id)); strings.Contains(out, harness.SecretPath) ||
		!strings.Contains(out, "UserData") {
		t.Errorf("rules test printed %s", out)
	}
	s.On("tested", harness.Answers(200))
	django.Edit(id, map[string]any{"webhook_url": s.URL("tested"), "enabled": false})
	stops("by-command")
	s.Run("rules", "rules", "test", strconv.Itoa(id), "--send")
	if n := s.Count("tested"); n != 1 {
		t.Errorf("rules test --send sent %d requests", n)
	}
	for _, refused := range [][]string{
		{"--event", harness.RegistrationRule, "--url", "ftp://127.0.0.1/"},
		{"--event", "NO_SUCH_EVENT", "--url", s.URL("x")},
		{"--event", harness.RegistrationRule, "--url", "http://[::1/"},
	} {
		if _, stderr, code := s.Try("rules", nil, append([]string{"rules", "add"}, refused...)...); code != 2 {
			t.Errorf("rules add %v: exit code %d, want 2: %s", refused, code, stderr)
		}
	}
	_, stderr, code := s.Try("serve", nil, "rules", "add", "--event", harness.RegistrationRule, "--url", s.URL("x"))
	if code != 1 || !strings.Contains(stderr, "denied") {
		t.Errorf("rules add with the account of serve: exit code %d, want 1: %s", code, stderr)
	}
	events := stream.Stop()
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	d.Terminate()
	harness.Figure(t, "%d events; edits were seen after %v; %d faults listed", len(events), took, len(wrong))
	// A delivery planned just before its rule was disabled may have become a row.
	if rows := s.Rows("rule_id NOT IN (?, ?)", added, id); rows > 0 {
		t.Errorf("%d rows were written though every request was answered with 200", rows)
	}
}
