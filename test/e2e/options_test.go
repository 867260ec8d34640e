//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestRulesThatDoMore publishes one stream to rules with every kind of option.
func TestRulesThatDoMore(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.FirstKey}
	const standard, generic = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a generic secret"
	s.Rule("plain")
	s.Rule("even", "--filter", `$data.id % 2 == 0`)
	s.Rule("none", "--filter", `.event_metadata.event_type == "another"`)
	s.Rule("made", "--transform", `{who: $data.pii.username, number: $data.id, event_metadata: {id: $event.id}}`, "--form")
	s.Rule("cloud", "--shape", "cloudevents")
	s.Rule("standard", "--shape", "standard", "--scheme", "standard", "--secret", standard)
	s.Rule("generic", "--scheme", "generic", "--secret", generic, "--signature-header", "X-Sum", "--signature-prefix", "sha512=",
		"--signature-encoding", "base64", "--signature-hash", "sha512")
	s.Rule("headers", "--header", "X-Tenant: campus-7", "--header", "X-Api-Key: api-key-1234567890",
		"--auth", "bearer", "--auth-token", "token-1")
	s.Rule("basic", "--auth", "basic", "--auth-user", "lms", "--auth-password", "open sesame")
	s.Rule("slow", "--timeout", "300ms", "--retry-schedule", "1s,1s", "--concurrency", "2", "--rate", "50")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	s.On("slow", func(n int, _ *harness.Received) harness.Reply {
		if n == 1 {
			return harness.Reply{Status: http.StatusOK, After: release}
		}
		return harness.Reply{Status: http.StatusOK}
	})

	s.Producer.CreateTopic(harness.Registrations, 2)
	d := s.Serve()
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 20)
	for _, hook := range []string{"plain", "generic", "headers", "basic"} {
		s.Delivers(hook, ids, 20*time.Second)
	}
	var even []string
	for i, id := range ids {
		if (i+1)%2 == 0 {
			even = append(even, id)
		}
	}
	s.Delivers("even", even, 20*time.Second)
	for _, hook := range []string{"made", "cloud", "standard", "slow"} {
		harness.Eventually(t, 20*time.Second, hook, func() error {
			return harness.AtLeast(s.Count(hook), len(ids))
		})
	}
	harness.Eventually(t, 20*time.Second, "the second tries", func() error {
		return harness.AtLeast(s.Count("slow"), 2*len(ids))
	})
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	if n := s.Count("even"); n != len(even) {
		t.Errorf("the filter let %d events through, want %d", n, len(even))
	}
	if n := s.Count("none"); n != 0 {
		t.Errorf("a filter that is never true let %d events through", n)
	}
	for _, got := range s.Got("made") {
		if want := "number=" + strconv.Itoa(harness.Learner(got.Event)); got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
			!strings.Contains(got.Body, want) || !strings.Contains(got.Body, "who=learner") {
			t.Errorf("the transform made %s, want %s in it", got.Body, want)
		}
	}
	for _, got := range s.Got("cloud") {
		var e struct {
			SpecVersion, ID, Source, Type, Time, DataContentType string
			Data                                                 struct{ ID int }
		}
		if err := json.Unmarshal([]byte(got.Body), &e); err != nil || got.Header.Get("Content-Type") != "application/cloudevents+json" ||
			e.SpecVersion != "1.0" || e.Type != harness.Registration || e.Time != "2026-03-01T09:30:15.123456Z" ||
			e.Data.ID != harness.Learner(e.ID) {
			t.Errorf("the CloudEvent is %s (%v)", got.Body, err)
		}
	}
	verifyAll(t, s.Got("standard"), signature.Standard{}, standard)
	sum := signature.HMAC{Header: "X-Sum", Prefix: "sha512=", Encoding: signature.Base64, Hash: signature.SHA512}
	verifyAll(t, s.Got("generic"), sum, generic)
	for _, got := range s.Got("headers") {
		if h := got.Header; h.Get("X-Tenant") != "campus-7" || h.Get("X-Api-Key") != "api-key-1234567890" ||
			h.Get("Authorization") != "Bearer token-1" {
			t.Errorf("the headers are %v", h)
		}
	}
	for _, got := range s.Got("basic") {
		r := http.Request{Header: got.Header}
		if user, password, ok := r.BasicAuth(); !ok || user != "lms" || password != "open sesame" {
			t.Errorf("Authorization is %q", got.Header.Get("Authorization"))
		}
	}
	d.Terminate()
}

// verifyAll verifies every request.
func verifyAll(t *testing.T, requests []harness.Received, scheme signature.Scheme, secrets ...string) {
	t.Helper()
	verifier, err := signature.NewVerifier(scheme, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range requests {
		if err := verifier.Verify(got.Header, []byte(got.Body)); err != nil {
			t.Errorf("a request to %s does not verify: %v", got.Path, err)
		}
	}
	if len(requests) == 0 {
		t.Error("there is no request to verify")
	}
}

// TestExpressionThatFails has a transform that fails for every event. The deliveries are
// dead-lettered, the rule is paused after twenty, and once the transform is fixed everything is
// sent.
func TestExpressionThatFails(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	id := s.Rule("hook", "--transform", `{number: ($data.pii.username | tonumber), event_metadata: {id: $event.id}}`)
	s.Rule("other")
	s.Producer.CreateTopic(harness.Registrations, 1)
	d := s.Serve()
	ids := s.Producer.Publish(harness.Registrations, 1, 1, 25)
	s.Delivers("other", ids, 20*time.Second)
	dead := func() int { return s.Rows("rule_id = ? AND state = 3 AND reason = 'expression'", id) }
	harness.Eventually(t, 20*time.Second, "twenty dead deliveries", func() error {
		return harness.AtLeast(dead(), 20)
	})
	number, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 90*time.Second, "the pause", func() error {
		return harness.Want("status", s.ListRules()[number].Status, "paused")
	})
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	if s.Count("hook") != 0 {
		t.Error("something was sent without a body")
	}
	ids = append(ids, s.Producer.Publish(harness.Registrations, 1, 26, 30)...)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)

	d.Notices(func() {
		s.Run("rules", "rules", "set", id, "--transform", `{number: $data.id, event_metadata: {id: $event.id}}`)
	})
	out := s.Run("rules", "rules", "set", id, "--resume", "--replay-dead", "--yes")
	s.Delivers("hook", ids, 30*time.Second)
	// The receiver gets the last one before its row is updated.
	harness.Eventually(t, 10*time.Second, "rows", func() error {
		return harness.Want("rows not delivered after "+out, s.Rows("rule_id = ? AND state IN (0, 1, 3)", id), 0)
	})
	for _, got := range s.Got("hook") {
		if want := fmt.Sprintf(`"number": %d`, harness.Learner(got.Event)); !strings.Contains(got.Body, want) {
			t.Errorf("the fixed transform made %s", got.Body)
		}
	}
	d.Terminate()
}

// TestURLChangedInDjango changes a rule's URL as somebody who may edit rows but does not know the
// rule's secret.
func TestURLChangedInDjango(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.FirstKey}
	id := s.Rule("right", "--auth", "bearer", "--auth-token", "canary-token-c0ffee")
	number, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	s.Producer.CreateTopic(harness.Registrations, 1)
	d := s.Serve()
	s.Delivers("right", s.Producer.Publish(harness.Registrations, 1, 1, 3), 20*time.Second)
	django := s.ORM()
	django.Edit(number, map[string]any{"webhook_url": s.URL("wrong")})
	d.WaitMetric(`webhook_dispatcher_rules{status="paused"}`, 1, 10*time.Second)
	held := s.Producer.Publish(harness.Registrations, 1, 4, 6)
	harness.Eventually(t, 10*time.Second, "rows", func() error {
		return harness.Want("rows", s.Rows("rule_id = ? AND state = 0", id), len(held))
	})
	if s.Count("wrong") != 0 {
		t.Fatal("the token was sent to an address that nobody has confirmed")
	}
	if shown := s.Run("rules", "rules", "show", id); !strings.Contains(shown, "confirm-url") {
		t.Errorf("rules show does not say what to do:\n%s", shown)
	}
	s.Run("rules", "rules", "set", id, "--confirm-url")
	s.Delivers("wrong", held, 30*time.Second)
	d.Terminate()
}

// TestSecretsRotated replaces a rule's secret and then the key that secrets are sealed with, while
// events keep coming.
func TestSecretsRotated(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.FirstKey}
	const old, fresh = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	id := s.Rule("hook", "--scheme", "standard", "--secret", old)
	s.Producer.CreateTopic(harness.Registrations, 1)
	d := s.Serve()
	ids := s.Producer.Publish(harness.Registrations, 1, 1, 3)
	s.Delivers("hook", ids, 20*time.Second)
	verifyAll(t, s.Got("hook"), signature.Standard{}, old)
	d.Notices(func() { s.Run("rules", "rules", "set", id, "--rotate-secret", fresh) })
	ids = append(ids, s.Producer.Publish(harness.Registrations, 1, 4, 6)...)
	s.Delivers("hook", ids, 20*time.Second)
	both := s.Got("hook")[3:]
	verifyAll(t, both, signature.Standard{}, old)
	verifyAll(t, both, signature.Standard{}, fresh)
	d.Terminate()

	sealed := func(key string) int {
		return s.MustNumber("SELECT COUNT(*) FROM webhook_dispatcher_rule_option WHERE key_id = ?", key)
	}
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.SecondKey + "," + harness.FirstKey}
	out := s.Run("rules", "secrets", "rotate")
	if sealed("k1") != 0 || sealed("k2") != 1 {
		t.Errorf("after secrets rotate: %d with the first key, %d with the second; it said %s", sealed("k1"), sealed("k2"), out)
	}
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.SecondKey}
	d = s.Serve()
	ids = append(ids, s.Producer.Publish(harness.Registrations, 1, 7, 9)...)
	s.Delivers("hook", ids, 20*time.Second)
	verifyAll(t, s.Got("hook")[6:], signature.Standard{}, fresh)
	d.Terminate()

	// Without the key nothing is sent, and nothing is lost.
	s.Settings = nil
	d = s.Serve()
	waiting := s.Producer.Publish(harness.Registrations, 1, 10, 12)
	harness.Eventually(t, 20*time.Second, "rows", func() error {
		return harness.Want("rows", s.Rows("rule_id = ? AND state = 0", id), len(waiting))
	})
	if !strings.Contains(d.Log.String(), "WEBHOOK_DISPATCHER_SECRETS_KEY") {
		t.Error("the log does not name the setting")
	}
	d.Terminate()
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.SecondKey}
	d = s.Serve()
	s.Delivers("hook", append(ids, waiting...), 30*time.Second)
	d.Terminate()
}
