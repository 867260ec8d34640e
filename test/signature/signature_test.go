//go:build e2e

// Package signature tests pkg/signature against the published packages of Standard Webhooks and
// against the receivers in the documentation. It needs Python 3.12, Node, npm, PHP and openssl.
package signature

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

const (
	newSecret  = "whsec_bmV3LXNlY3JldC1vZi10aGUtcmVjZWl2ZXItMzJieXQ="
	oldSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	stranger   = "whsec_c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXI="
	privateKey = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	publicKey  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	otherKey   = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
)

// What a receiver makes of a request: it accepts it, answers 401, or fails, for which its server
// answers 500.
const (
	accepted = "accepted"
	refused  = "refused"
	failed   = "failed"
)

// request is a request to a receiver. Names of headers are in lower case.
type request struct {
	Secrets []string          `json:"secrets"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`

	name string
	want string
}

// bodies are request bodies that careless code might change.
var bodies = map[string]string{
	"json":    `{"openedx_events.learning.data.CourseEnrollmentData": {"user": {"id": 1.50}}, "event_metadata": {"id": "1"}}`,
	"unicode": "{\"name\": \"Zoë 中 \U0001F393 \\u00e9\",\r\n \"b\": 12345678901234567890}\n",
	"form":    "a=1&b=%C3%A9+x&event_metadata=%7B%22id%22%3A+1%7D",
	"empty":   "",
	"large":   `{"a": "` + strings.Repeat("é ", 1<<19) + `"}`,
}

// requests returns requests that a receiver with newSecret and oldSecret must accept or refuse.
func requests(t *testing.T) []request {
	t.Helper()
	known := []string{newSecret, oldSecret}
	var list []request
	add := func(name string, want bool, at time.Duration, body string, change func(r *request), secrets ...string) {
		list = append(list, signed(t, name, want, at, body, change, known, secrets...))
	}
	for name, body := range bodies {
		add(name, true, 0, body, nil, newSecret)
	}
	set := func(name, value string) func(*request) { return func(r *request) { r.Headers[name] = value } }
	drop := func(name string) func(*request) { return func(r *request) { delete(r.Headers, name) } }
	body := bodies["json"]
	add("old secret", true, 0, body, nil, oldSecret)
	add("both secrets", true, 0, body, nil, newSecret, oldSecret)
	add("another version first", true, 0, body, nil, privateKey, newSecret)
	add("a stranger's first", true, 0, body, nil, stranger, newSecret)
	add("four minutes old", true, -4*time.Minute, body, nil, newSecret)
	add("four minutes early", true, 4*time.Minute, body, nil, newSecret)
	add("stranger", false, 0, body, nil, stranger)
	add("another version alone", false, 0, body, nil, privateKey)
	add("six minutes old", false, -6*time.Minute, body, nil, newSecret)
	add("six minutes early", false, 6*time.Minute, body, nil, newSecret)
	add("other body", false, 0, body, func(r *request) { r.Body = append(bytes.Clone(r.Body), ' ') }, newSecret)
	add("other id", false, 0, body, set("webhook-id", "msg_2"), newSecret)
	add("other time", false, 0, body, set("webhook-timestamp", strconv.FormatInt(time.Now().Unix()+7, 10)), newSecret)
	add("time no number", false, 0, body, set("webhook-timestamp", "now"), newSecret)
	add("no id", false, 0, body, drop("webhook-id"), newSecret)
	add("no time", false, 0, body, drop("webhook-timestamp"), newSecret)
	add("no signature", false, 0, body, drop("webhook-signature"), newSecret)
	add("no comma", false, 0, body, set("webhook-signature", "v1"), newSecret)
	add("nothing behind the comma", false, 0, body, set("webhook-signature", "v1,"), newSecret)
	add("no base64", false, 0, body, set("webhook-signature", "v1,% v1,a v2"), newSecret)
	return list
}

// signed makes a request with this module's signer and then changes it.
func signed(
	t *testing.T, name string, want bool, at time.Duration, body string, change func(*request), known []string, secrets ...string,
) request {
	t.Helper()
	signer, err := signature.NewSigner(signature.Standard{}, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	if err := signer.Sign(header, "msg_"+strings.ReplaceAll(name, " ", "-"), time.Now().Add(at), []byte(body)); err != nil {
		t.Fatal(err)
	}
	r := request{Secrets: known, Headers: map[string]string{}, Body: []byte(body), name: name, want: refused}
	if want {
		r.want = accepted
	}
	for name := range header {
		r.Headers[strings.ToLower(name)] = header.Get(name)
	}
	if change != nil {
		change(&r)
	}
	return r
}

// compare fails the test for each request that a receiver got wrong.
func compare(t *testing.T, list []request, got []string) {
	t.Helper()
	if len(got) != len(list) {
		t.Fatalf("%d answers to %d requests", len(got), len(list))
	}
	for i, r := range list {
		if got[i] != r.want {
			t.Errorf("%s: %s, want %s", r.name, got[i], r.want)
		}
	}
}

// run runs a program that reads in as JSON and prints out as JSON.
func run(t *testing.T, in, out any, env []string, name string, args ...string) {
	t.Helper()
	input, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, &stderr)
	}
	if err := json.Unmarshal(output, out); err != nil {
		t.Fatalf("%s printed %q: %v", name, output, err)
	}
}

// snippet writes a block of docs/receivers.md into a new folder, and returns the file's path.
func snippet(t *testing.T, block, file string) string {
	t.Helper()
	code, ok := harness.Blocks(t, "receivers.md")[block]
	if !ok {
		t.Fatalf("docs/receivers.md has no block %q", block)
	}
	path := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(path, []byte(code+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// packages returns the folder with the published packages, and the environment in which Python
// finds its own.
func packages(t *testing.T) (folder string, env []string) {
	t.Helper()
	folder = harness.Output(t, "", "./packages")
	return folder, []string{"PYTHONPATH=" + filepath.Join(folder, "python"), "PYTHONDONTWRITEBYTECODE=1"}
}

// TestTheirSignatures checks that the published packages sign as we do, and that our verifier
// accepts it.
func TestTheirSignatures(t *testing.T) {
	t.Parallel()
	folder, env := packages(t)
	var list []request
	for name, body := range bodies {
		for _, secret := range []string{newSecret, oldSecret} {
			list = append(list, signed(t, name, true, 0, body, nil, []string{secret}, secret))
		}
	}
	for name, args := range map[string][]string{
		"Python":     {harness.Python(t), "sign.py"},
		"JavaScript": {"node", "sign.mjs", folder},
	} {
		var theirs []string
		run(t, list, &theirs, env, args[0], args[1:]...)
		for i, r := range list {
			if theirs[i] != r.Headers["webhook-signature"] {
				t.Errorf("%s, %s: they sign %s, we sign %s", name, r.name, theirs[i], r.Headers["webhook-signature"])
			}
			verifier, err := signature.NewVerifier(signature.Standard{}, r.Secrets...)
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{}
			for name, value := range r.Headers {
				header.Set(name, value)
			}
			header.Set("webhook-signature", theirs[i])
			if err := verifier.Verify(header, r.Body); err != nil {
				t.Errorf("%s, %s: %v", name, r.name, err)
			}
		}
	}
}

// TestMakingKeys checks that the documentation's commands make valid keys.
func TestMakingKeys(t *testing.T) {
	t.Parallel()
	secret := harness.Output(t, t.TempDir(), "bash", snippet(t, "shell-secret", "secret.sh"))
	pair := strings.Fields(harness.Output(t, t.TempDir(), "bash", snippet(t, "shell-keys", "keys.sh")))
	if len(pair) != 2 {
		t.Fatalf("%d words", len(pair))
	}
	for _, c := range [][2]string{{secret, secret}, {pair[0], pair[1]}} {
		signer, err := signature.NewSigner(signature.Standard{}, c[0])
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := signature.NewVerifier(signature.Standard{}, c[1])
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		if err := signer.Sign(header, "msg_1", time.Now(), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(header, []byte("{}")); err != nil {
			t.Error(err)
		}
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_")); err != nil || len(raw) != 32 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}
