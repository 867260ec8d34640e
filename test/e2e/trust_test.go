//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// tokenServer is an authorization server whose tokens expire when the test says so.
type tokenServer struct {
	*httptest.Server

	calls, generation atomic.Int64
}

const clientSecret = "canary-client-secret-4be1"

func newTokenServer(t *testing.T, address string) *tokenServer {
	t.Helper()
	a := &tokenServer{}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.calls.Add(1)
		id, secret, _ := r.BasicAuth()
		if id != "dispatcher" || secret != clientSecret || r.FormValue("grant_type") != "client_credentials" ||
			r.FormValue("scope") != "hooks write" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error": "invalid_client", "error_description": "%s"}`, secret)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": a.token(), "token_type": "Bearer", "expires_in": 3600})
	}))
	_ = a.Listener.Close()
	a.Listener = l
	a.Start()
	t.Cleanup(a.Close)
	return a
}

func (a *tokenServer) token() string {
	return fmt.Sprintf("canary-access-token-%d", a.generation.Load())
}

// TestOAuth2 has an endpoint that requires tokens of an authorization server, which revokes them
// midway.
func TestOAuth2(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.FirstKey}
	server := newTokenServer(t, "127.0.0.1:0")
	s.On("hook", func(_ int, got *harness.Received) harness.Reply {
		if got.Header.Get("Authorization") != "Bearer "+server.token() {
			return harness.Reply{Status: http.StatusUnauthorized}
		}
		return harness.Reply{Status: http.StatusOK}
	})
	oauth := func(secret string) []string {
		return []string{
			"--auth", "oauth2", "--auth-token-url", server.URL + "/token", "--auth-client-id", "dispatcher", "--auth-client-secret", secret,
			"--auth-scope", "hooks,write", "--retry-schedule", "1s,2s,4s,8s,16s",
		}
	}
	s.Rule("hook", oauth(clientSecret)...)
	wrong := s.Rule("wrong", oauth("canary-wrong-secret")...)
	s.Producer.CreateTopic(harness.Registrations, 2)
	d := s.Serve()
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 50)
	s.Delivers("hook", ids, 20*time.Second)
	calls := server.calls.Load()
	server.generation.Add(1)
	ids = append(ids, s.Producer.Publish(harness.Registrations, 2, 51, 100)...)
	s.Delivers("hook", ids, 40*time.Second)
	harness.Eventually(t, 20*time.Second, "attempts without a token", func() error {
		return harness.AtLeast(s.MustNumber(`SELECT COUNT(*) FROM webhook_dispatcher_attempt
  WHERE rule_id = ? AND error_class = 'token'`, wrong), 1)
	})
	if s.Count("wrong") != 0 {
		t.Error("a request was sent without a token")
	}
	d.Terminate()
	harness.Figure(t, "50 deliveries took %d token calls, the other rule's refused ones included", calls)
}

// TestTokenServerThatIsNotAllowed has an endpoint at an allowed address and its authorization
// server at a denied one.
func TestTokenServerThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.FirstKey, "WEBHOOK_DISPATCHER_EGRESS_ALLOW=127.0.0.1/32"}
	server := newTokenServer(t, "127.0.0.2:0")
	id := s.Rule("hook", "--auth", "oauth2", "--auth-token-url", server.URL, "--auth-client-id", "dispatcher",
		"--auth-client-secret", clientSecret, "--auth-scope", "hooks,write")
	s.Producer.CreateTopic(harness.Registrations, 1)
	d := s.Serve()
	s.Producer.Publish(harness.Registrations, 1, 1, 1)
	// It is retried, since DNS may be wrong for a moment.
	harness.Eventually(t, 20*time.Second, "the row", func() error {
		return harness.Want("row", s.Row(id), harness.Row{State: "pending", Attempts: 1, Reason: "egress_denied"})
	})
	if _, stderr, code := s.Try("rules", nil, "rules", "test", id, "--send"); code != 1 {
		t.Errorf("rules test --send: exit code %d, want 1: %s", code, stderr)
	}
	if n := server.calls.Load(); n != 0 || s.Count("hook") != 0 {
		t.Errorf("%d token calls went to an address that is not allowed", n)
	}
	d.Terminate()
}

// TestSecretsAreNotShown puts a canary into every secret option, uses them all, and searches every
// output for them.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Settings = []string{
		"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.FirstKey, "WEBHOOK_DISPATCHER_LOG_LEVEL=debug", "WEBHOOK_DISPATCHER_ATTEMPT_LOG=all",
		"WEBHOOK_DISPATCHER_METRICS_PER_RULE=true", "WEBHOOK_DISPATCHER_SIGNING_SCHEME=standard",
		"WEBHOOK_DISPATCHER_SIGNING_SECRET=" + canarySecret("signing-setting"),
	}
	server := newTokenServer(t, "127.0.0.1:0")
	var outputs []string
	run := func(args ...string) string {
		stdout, stderr, _ := s.Try("rules", nil, args...)
		outputs = append(outputs, strings.Join(args[:2], " ")+": "+stdout+stderr)
		return strings.TrimSpace(stdout)
	}
	add := func(hook string, flags ...string) string {
		return run(append([]string{"rules", "add", "--event", harness.RegistrationRule, "--url", s.URL(hook)}, flags...)...)
	}
	ca := harness.NewAuthority(t)
	cert, key := ca.Client("canary")
	rules := []string{
		add("a", "--scheme", "standard", "--secret", canarySecret("signing-option")),
		add("b", "--auth", "bearer", "--auth-token", "canary-bearer-token"),
		add("c", "--auth", "basic", "--auth-user", "lms", "--auth-password", "canary-basic-password"),
		add("d", "--auth", "oauth2", "--auth-token-url", server.URL, "--auth-client-id", "dispatcher", "--auth-client-secret", clientSecret,
			"--auth-scope", "hooks,write"),
		add("e", "--header", "X-Api-Key: canary-header-value", "--client-cert", cert, "--client-key", key),
		add("f", "--scheme", "sig-hmac-sha256", "--secret", "canary-hmac-secret"),
	}
	for _, hook := range []string{"a", "b", "c"} {
		s.On(hook, harness.Answers(500, 200))
	}
	// Refused values must not be shown either.
	add("x", "--scheme", "standard", "--secret", "canary-no-whsec")
	add("x", "--auth", "bearer", "--auth-token", "canary bearer with spaces")
	add("x", "--header", "X-Key: canary-line\r\nbreak")
	add("x", "--auth", "basic", "--auth-user", "a:b", "--auth-password", "canary-refused-password")
	run("rules", "set", rules[0], "--rotate-secret", "canary-no-whsec-either")
	run("rules", "set", rules[0], "--rotate-secret", canarySecret("signing-rotated"))

	s.Producer.CreateTopic(harness.Registrations, 1)
	d := s.Serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s")
	s.Producer.Publish(harness.Registrations, 1, 1, 5)
	for _, hook := range []string{"b", "c", "d", "e", "f"} {
		harness.Eventually(t, 30*time.Second, hook, func() error {
			return harness.AtLeast(len(s.Taken(hook)), 5)
		})
	}
	harness.Eventually(t, 30*time.Second, "a", func() error { return harness.AtLeast(len(s.Taken("a")), 5) })
	for _, id := range rules {
		run("rules", "show", id)
		run("rules", "show", id, "--json")
		run("rules", "test", id)
		run("rules", "test", id, "--json", "--send")
	}
	run("rules", "list")
	run("rules", "list", "--json", "--show-urls")
	run("deliveries", "list", "--json")
	run("secrets", "rotate")
	for _, path := range []string{"/metrics", "/readyz", "/livez"} {
		_, body, err := d.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, path+": "+body)
	}
	d.Terminate()
	outputs = append(outputs, "the daemon's log: "+d.Log.String())
	for _, table := range []string{"rule_option", "delivery", "attempt", "lane", "topic"} {
		outputs = append(outputs, "the table "+table+": "+dumpTable(s, "webhook_dispatcher_"+table))
	}
	private, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	hidden := []string{
		canarySecret("signing-setting"), canarySecret("signing-option"), canarySecret("signing-rotated"), clientSecret, "canary-bearer-token",
		"canary-basic-password", "canary-access-token", "canary-header-value", "canary-hmac-secret", "canary-no-whsec", "canary bearer",
		"canary-line", "canary-refused-password", base64.StdEncoding.EncodeToString([]byte("lms:canary-basic-password")),
		base64.StdEncoding.EncodeToString([]byte("dispatcher:" + clientSecret)), strings.Split(string(private), "\n")[1],
		strings.Split(harness.FirstKey, ":")[1],
	}
	for _, secret := range hidden {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
			for _, output := range outputs {
				if at := strings.Index(output, form); at >= 0 {
					name, _, _ := strings.Cut(output, ":")
					t.Errorf("%q stands in the output of %s: %s", secret, name, output[max(0, at-100):min(len(output), at+60)])
				}
			}
		}
	}
}

// canarySecret returns a Standard Webhooks secret made from a name.
func canarySecret(name string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte("canary "+name+" 0123456789abcdef"))
}

// dumpTable returns a table's contents as text.
func dumpTable(s *harness.Site, table string) string {
	s.T.Helper()
	rows, err := s.DB.Query("SELECT * FROM " + table)
	if err != nil {
		s.T.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		s.T.Fatal(err)
	}
	var text strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new([]byte)
		}
		if err := rows.Scan(values...); err != nil {
			s.T.Fatal(err)
		}
		for i, value := range values {
			fmt.Fprintf(&text, "%s=%s ", columns[i], *value.(*[]byte))
		}
		text.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		s.T.Fatal(err)
	}
	return text.String()
}
