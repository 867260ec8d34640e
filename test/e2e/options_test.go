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
)

// Keys that secrets of rules are sealed with.
const (
	firstKey  = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	secondKey = "k2:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

// TestRulesThatDoMore publishes one stream to rules with all kinds of options.
func TestRulesThatDoMore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + firstKey}
	const standard, generic = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a generic secret"
	s.rule("plain")
	s.rule("even", "--filter", `$data.id % 2 == 0`)
	s.rule("none", "--filter", `.event_metadata.event_type == "another"`)
	s.rule("made", "--transform", `{who: $data.pii.username, number: $data.id, event_metadata: {id: $event.id}}`, "--form")
	s.rule("cloud", "--shape", "cloudevents")
	s.rule("standard", "--shape", "standard", "--scheme", "standard", "--secret", standard)
	s.rule("generic", "--scheme", "generic", "--secret", generic, "--signature-header", "X-Sum", "--signature-prefix", "sha512=",
		"--signature-encoding", "base64", "--signature-hash", "sha512")
	s.rule("headers", "--header", "X-Tenant: campus-7", "--header", "X-Api-Key: api-key-1234567890",
		"--auth", "bearer", "--auth-token", "token-1")
	s.rule("basic", "--auth", "basic", "--auth-user", "lms", "--auth-password", "open sesame")
	s.rule("slow", "--timeout", "300ms", "--retry-schedule", "1s,1s", "--concurrency", "2", "--rate", "50")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	s.on("slow", func(n int, _ *received) reply {
		if n == 1 {
			return reply{status: http.StatusOK, after: release}
		}
		return reply{status: http.StatusOK}
	})

	s.producer.create(registrations, 2)
	d := s.serve()
	ids := s.producer.publish(registrations, 2, 1, 20)
	for _, hook := range []string{"plain", "generic", "headers", "basic"} {
		s.delivers(hook, ids, 20*time.Second)
	}
	var even []string
	for i, id := range ids {
		if (i+1)%2 == 0 {
			even = append(even, id)
		}
	}
	s.delivers("even", even, 20*time.Second)
	for _, hook := range []string{"made", "cloud", "standard", "slow"} {
		eventually(t, 20*time.Second, hook, func() error { return atLeast(s.count(hook), len(ids)) })
	}
	eventually(t, 20*time.Second, "the second tries", func() error { return atLeast(s.count("slow"), 2*len(ids)) })
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	if n := s.count("even"); n != len(even) {
		t.Errorf("the filter let %d events through, want %d", n, len(even))
	}
	if n := s.count("none"); n != 0 {
		t.Errorf("a filter that is never true let %d events through", n)
	}
	for _, got := range s.got("made") {
		if want := "number=" + strconv.Itoa(learner(got.Event)); got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
			!strings.Contains(got.Body, want) || !strings.Contains(got.Body, "who=learner") {
			t.Errorf("the transform made %s, want %s in it", got.Body, want)
		}
	}
	for _, got := range s.got("cloud") {
		var e struct {
			SpecVersion, ID, Source, Type, Time, DataContentType string
			Data                                                 struct{ ID int }
		}
		if err := json.Unmarshal([]byte(got.Body), &e); err != nil || got.Header.Get("Content-Type") != "application/cloudevents+json" ||
			e.SpecVersion != "1.0" || e.Type != registration || e.Time != "2026-03-01T09:30:15.123456Z" || e.Data.ID != learner(e.ID) {
			t.Errorf("the CloudEvent is %s (%v)", got.Body, err)
		}
	}
	verifyAll(t, s.got("standard"), signature.Standard{}, standard)
	sum := signature.HMAC{Header: "X-Sum", Prefix: "sha512=", Encoding: signature.Base64, Hash: signature.SHA512}
	verifyAll(t, s.got("generic"), sum, generic)
	for _, got := range s.got("headers") {
		if h := got.Header; h.Get("X-Tenant") != "campus-7" || h.Get("X-Api-Key") != "api-key-1234567890" ||
			h.Get("Authorization") != "Bearer token-1" {
			t.Errorf("the headers are %v", h)
		}
	}
	for _, got := range s.got("basic") {
		r := http.Request{Header: got.Header}
		if user, password, ok := r.BasicAuth(); !ok || user != "lms" || password != "open sesame" {
			t.Errorf("Authorization is %q", got.Header.Get("Authorization"))
		}
	}
	d.terminate()
}

// learner returns the number at the end of an event's id.
func learner(event string) int {
	n, _ := strconv.Atoi(event[strings.LastIndex(event, "-")+1:])
	return n
}

// verifyAll verifies every request.
func verifyAll(t *testing.T, requests []received, scheme signature.Scheme, secrets ...string) {
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

// TestExpressionThatFails has a transform that fails for every event: its deliveries are dead and kept, the rule is paused after twenty,
// and once the transform is mended everything is sent.
func TestExpressionThatFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	id := s.rule("hook", "--transform", `{number: ($data.pii.username | tonumber), event_metadata: {id: $event.id}}`)
	s.rule("other")
	s.producer.create(registrations, 1)
	d := s.serve()
	ids := s.producer.publish(registrations, 1, 1, 25)
	s.delivers("other", ids, 20*time.Second)
	dead := func() int { return s.rows("rule_id = ? AND state = 3 AND reason = 'expression'", id) }
	eventually(t, 20*time.Second, "twenty dead deliveries", func() error { return atLeast(dead(), 20) })
	number, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, "the pause", func() error { return want("status", s.list()[number].Status, "paused") })
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	if s.count("hook") != 0 {
		t.Error("something was sent without a body")
	}
	ids = append(ids, s.producer.publish(registrations, 1, 26, 30)...)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })

	d.notices(func() {
		s.run("rules", "rules", "set", id, "--transform", `{number: $data.id, event_metadata: {id: $event.id}}`)
	})
	out := s.run("rules", "rules", "set", id, "--resume", "--replay-dead", "--yes")
	s.delivers("hook", ids, 30*time.Second)
	eventually(t, 10*time.Second, "rows", func() error { // the receiver knows of the last one before its row says so
		return want("rows not delivered after "+out, s.rows("rule_id = ? AND state IN (0, 1, 3)", id), 0)
	})
	for _, got := range s.got("hook") {
		if want := fmt.Sprintf(`"number": %d`, learner(got.Event)); !strings.Contains(got.Body, want) {
			t.Errorf("the mended transform made %s", got.Body)
		}
	}
	d.terminate()
}

// TestURLChangedInDjango has somebody who may edit rows, and does not know the rule's secret, send it elsewhere.
func TestURLChangedInDjango(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + firstKey}
	id := s.rule("right", "--auth", "bearer", "--auth-token", "canary-token-c0ffee")
	number, err := strconv.Atoi(id)
	if err != nil {
		t.Fatal(err)
	}
	s.producer.create(registrations, 1)
	d := s.serve()
	s.delivers("right", s.producer.publish(registrations, 1, 1, 3), 20*time.Second)
	django := s.orm()
	django.edit(number, map[string]any{"webhook_url": s.url("wrong")})
	d.metricIs(`webhook_dispatcher_rules{status="paused"}`, 1, 10*time.Second)
	held := s.producer.publish(registrations, 1, 4, 6)
	eventually(t, 10*time.Second, "rows", func() error { return want("rows", s.rows("rule_id = ? AND state = 0", id), len(held)) })
	if s.count("wrong") != 0 {
		t.Fatal("the token was sent to an address that nobody has confirmed")
	}
	if shown := s.run("rules", "rules", "show", id); !strings.Contains(shown, "confirm-url") {
		t.Errorf("rules show does not say what to do:\n%s", shown)
	}
	s.run("rules", "rules", "set", id, "--confirm-url")
	s.delivers("wrong", held, 30*time.Second)
	d.terminate()
}

// TestSecretsRotated replaces a rule's secret, then the key that secrets are sealed with, while events go on.
func TestSecretsRotated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + firstKey}
	const old, fresh = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	id := s.rule("hook", "--scheme", "standard", "--secret", old)
	s.producer.create(registrations, 1)
	d := s.serve()
	ids := s.producer.publish(registrations, 1, 1, 3)
	s.delivers("hook", ids, 20*time.Second)
	verifyAll(t, s.got("hook"), signature.Standard{}, old)
	d.notices(func() { s.run("rules", "rules", "set", id, "--rotate-secret", fresh) })
	ids = append(ids, s.producer.publish(registrations, 1, 4, 6)...)
	s.delivers("hook", ids, 20*time.Second)
	both := s.got("hook")[3:]
	verifyAll(t, both, signature.Standard{}, old)
	verifyAll(t, both, signature.Standard{}, fresh)
	d.terminate()

	sealed := func(key string) int {
		return s.mustNumber("SELECT COUNT(*) FROM webhook_dispatcher_rule_option WHERE key_id = ?", key)
	}
	s.settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + secondKey + "," + firstKey}
	out := s.run("rules", "secrets", "rotate")
	if sealed("k1") != 0 || sealed("k2") != 1 {
		t.Errorf("after secrets rotate: %d with the first key, %d with the second; it said %s", sealed("k1"), sealed("k2"), out)
	}
	s.settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + secondKey}
	d = s.serve()
	ids = append(ids, s.producer.publish(registrations, 1, 7, 9)...)
	s.delivers("hook", ids, 20*time.Second)
	verifyAll(t, s.got("hook")[6:], signature.Standard{}, fresh)
	d.terminate()

	// Without the key nothing is sent, and nothing is lost.
	s.settings = nil
	d = s.serve()
	waiting := s.producer.publish(registrations, 1, 10, 12)
	eventually(t, 20*time.Second, "rows", func() error { return want("rows", s.rows("rule_id = ? AND state = 0", id), len(waiting)) })
	if !strings.Contains(d.log.String(), "WEBHOOK_DISPATCHER_SECRETS_KEY") {
		t.Error("the log does not name the setting")
	}
	d.terminate()
	s.settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + secondKey}
	d = s.serve()
	s.delivers("hook", append(ids, waiting...), 30*time.Second)
	d.terminate()
}
