//go:build e2e

package signature

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestReceivers runs the receivers of the documentation: they accept what they should and nothing
// else. Those with published packages get fewer attacks, because the packages are laxer about the
// form of timestamps.
func TestReceivers(t *testing.T) {
	t.Parallel()
	folder, env := packages(t)
	python := harness.Python(t)
	lax := append(requests(t), badSecrets(t)...)
	strict := append(slices.Clip(lax), attacks(t)...)
	for block, c := range map[string]struct {
		list []request
		args func(t *testing.T) []string
	}{
		"python":     {strict, func(t *testing.T) []string { return []string{python, "check.py", snippet(t, "python", "r.py")} }},
		"javascript": {strict, func(t *testing.T) []string { return []string{"node", "check.mjs", snippet(t, "javascript", "r.mjs")} }},
		"python-package": {lax, func(t *testing.T) []string {
			return []string{python, "check.py", snippet(t, "python-package", "r.py")}
		}},
		"javascript-package": {lax, func(t *testing.T) []string { return []string{"node", "check.mjs", linked(t, folder)} }},
	} {
		t.Run(block, func(t *testing.T) {
			t.Parallel()
			args := c.args(t)
			var got []string
			run(t, c.list, &got, env, args[0], args[1:]...)
			compare(t, c.list, got)
		})
	}
}

// linked writes the receiver that uses the JavaScript package to a folder from which it finds the
// package.
func linked(t *testing.T, folder string) string {
	t.Helper()
	path := snippet(t, "javascript-package", "r.mjs")
	if err := os.Symlink(filepath.Join(folder, "node_modules"), filepath.Join(filepath.Dir(path), "node_modules")); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReceiverWithPublicKey(t *testing.T) {
	t.Parallel()
	known := []string{publicKey}
	list := []request{
		signed(t, "good", true, 0, bodies["unicode"], nil, known, privateKey),
		signed(t, "beside others", true, 0, bodies["json"], nil, known, newSecret, otherKey, privateKey),
		signed(t, "another key", false, 0, bodies["json"], nil, known, otherKey),
		signed(t, "symmetric", false, 0, bodies["json"], nil, known, newSecret),
		signed(t, "old", false, -6*time.Minute, bodies["json"], nil, known, privateKey),
		signed(t, "other body", false, 0, bodies["json"], func(r *request) { r.Body = []byte("{}") }, known, privateKey),
		signed(t, "no base64", false, 0, "{}", func(r *request) { r.Headers["webhook-signature"] = "v1a,% v1a, v1a" }, known, privateKey),
	}
	for name, keys := range map[string][]string{
		"no key": {}, "an empty key": {""}, "the prefix alone": {"whpk_"}, "a secret": {newSecret}, "a short key": {"whpk_AAAA"},
		"one that is longer": {publicKey[:len(publicKey)-1] + "AAAAA="}, "beside a good one": {publicKey, ""},
	} {
		list = append(list, signed(t, name, false, 0, "{}", func(r *request) { r.want = failed }, keys, privateKey))
	}
	var got []string
	run(t, list, &got, nil, "node", "check.mjs", snippet(t, "javascript-public", "r.mjs"))
	compare(t, list, got)
}

func TestReceiverOfSigHMAC(t *testing.T) {
	t.Parallel()
	list := ofBody(t, signature.SigHMACSHA256())
	var got []string
	run(t, list, &got, nil, harness.Python(t), "check.py", snippet(t, "python-sig-hmac", "r.py"))
	compare(t, list, got)
}

func TestReceiversOfGeneric(t *testing.T) {
	t.Parallel()
	list := ofBody(t, signature.HMAC{Header: "X-Hub-Signature-256", Prefix: "sha256="})
	var got []string
	run(t, list, &got, nil, "node", "check.mjs", snippet(t, "javascript-generic", "r.mjs"))
	compare(t, list, got)
	inGo(t, "go-generic", list)
}

func TestReceiverInGo(t *testing.T) {
	t.Parallel()
	list := append(requests(t), badSecrets(t)...)
	inGo(t, "go", append(list, attacks(t)...))
}

// inGo compiles a Go receiver with this module and compares what it makes of the requests.
func inGo(t *testing.T, block string, list []request) {
	t.Helper()
	path := snippet(t, block, "receiver.go")
	driver := filepath.Join(filepath.Dir(path), "main.go")
	if err := os.WriteFile(driver, []byte(`package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
)

func main() {
	var list []struct {
		Secrets []string
		Headers map[string]string
		Body    []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		panic(err)
	}
	outcomes := []string{}
	for _, r := range list {
		handler, err := receiver(r.Secrets)
		if err != nil {
			outcomes = append(outcomes, "failed")
			continue
		}
		request := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(r.Body))
		for name, value := range r.Headers {
			request.Header.Set(name, value)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		outcomes = append(outcomes, map[int]string{http.StatusNoContent: "accepted", http.StatusUnauthorized: "refused"}[answer.Code])
	}
	text, _ := json.Marshal(outcomes)
	fmt.Println(string(text))
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	run(t, list, &got, nil, "go", "run", driver, path)
	compare(t, list, got)
}

// TestReceiverInPHP serves the PHP receiver with PHP's built-in web server.
func TestReceiverInPHP(t *testing.T) {
	t.Parallel()
	list := append(requests(t), attacks(t)...)
	path := snippet(t, "php", "receiver.php")
	base := servePHP(t, path, "WEBHOOK_SECRETS="+strings.Join(list[0].Secrets, ","))
	got := make([]string, len(list))
	for i := range list {
		got[i] = askPHP(t, base, &list[i])
	}
	compare(t, list, got)
	// One after the other, because each has its own server, whose port the next must not take.
	for _, r := range badSecrets(t) {
		t.Run(r.name, func(t *testing.T) {
			compare(t, []request{r}, []string{askPHP(t, servePHP(t, path, "WEBHOOK_SECRETS="+strings.Join(r.Secrets, ",")), &r)})
		})
	}
	t.Run("not set", func(t *testing.T) {
		r := forged(t, "not set", "")
		compare(t, []request{r}, []string{askPHP(t, servePHP(t, path), &r)})
	})
}

// askPHP sends a request to a receiver and returns what it made of it.
func askPHP(t *testing.T, base string, r *request) string {
	t.Helper()
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base, bytes.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, value := range r.Headers {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || len(text) > 0 {
		t.Errorf("%s: status %d, %q, %v", r.name, resp.StatusCode, text, err)
	}
	switch resp.StatusCode {
	case http.StatusNoContent:
		return accepted
	case http.StatusUnauthorized:
		return refused
	case http.StatusInternalServerError:
		return failed
	}
	return resp.Status
}

// servePHP serves a script until the test ends and returns its URL. PHP's output says when it
// listens.
func servePHP(t *testing.T, path string, env ...string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command("php", "-S", addr, path)
	cmd.Env = append(os.Environ(), env...)
	output, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var said []byte
		buf := make([]byte, 4096)
		for {
			n, err := output.Read(buf)
			said = append(said, buf[:n]...)
			if started != nil && bytes.Contains(said, []byte(" started")) {
				close(started)
				started = nil
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	select {
	case <-started:
	case <-ended:
		t.Fatal("PHP's server did not start")
	}
	return "http://" + addr
}
