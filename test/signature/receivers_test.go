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
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// The receivers of the documentation accept what they should and nothing else; those that use the published packages stand for the
// packages.
func TestReceivers(t *testing.T) {
	t.Parallel()
	folder, env := packages(t)
	python := script(t, "", "../e2e/python/venv")
	list := requests(t)
	for block, start := range map[string]func(t *testing.T) []string{
		"python":             func(t *testing.T) []string { return []string{python, "check.py", snippet(t, "python", "r.py")} },
		"python-package":     func(t *testing.T) []string { return []string{python, "check.py", snippet(t, "python-package", "r.py")} },
		"javascript":         func(t *testing.T) []string { return []string{"node", "check.mjs", snippet(t, "javascript", "r.mjs")} },
		"javascript-package": func(t *testing.T) []string { return []string{"node", "check.mjs", linked(t, folder)} },
	} {
		t.Run(block, func(t *testing.T) {
			t.Parallel()
			args := start(t)
			var got []bool
			run(t, list, &got, env, args[0], args[1:]...)
			compare(t, list, got)
		})
	}
}

// linked writes the receiver that uses the package of JavaScript to where it finds it.
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
	var got []bool
	run(t, list, &got, nil, "node", "check.mjs", snippet(t, "javascript-public", "r.mjs"))
	compare(t, list, got)
}

func TestReceiverOfSigHMAC(t *testing.T) {
	t.Parallel()
	var list []request
	for name, secrets := range map[string][]string{"good": {"Zoë's"}, "one of two": {"new", "Zoë's"}, "other": {"new"}} {
		signer, err := signature.NewSigner(signature.SigHMACSHA256(), "Zoë's", "unused")
		if err != nil {
			t.Fatal(err)
		}
		for body, text := range bodies {
			header := http.Header{}
			if err := signer.Sign(header, "", time.Time{}, []byte(text)); err != nil {
				t.Fatal(err)
			}
			list = append(list, request{
				Secrets: secrets, Headers: map[string]string{"authorization": header.Get("Authorization")}, Body: []byte(text),
				name: name + ", " + body, want: name != "other",
			})
		}
	}
	list = append(list, request{Secrets: []string{"s"}, Headers: map[string]string{}, Body: []byte{}, name: "no header"})
	var got []bool
	run(t, list, &got, nil, script(t, "", "../e2e/python/venv"), "check.py", snippet(t, "python-sig-hmac", "r.py"))
	compare(t, list, got)
}

// The Go receiver is compiled as a program of its own, against this module.
func TestReceiverInGo(t *testing.T) {
	t.Parallel()
	path := snippet(t, "go", "receiver.go")
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
	accepted := []bool{}
	for _, r := range list {
		handler, err := receiver(r.Secrets)
		if err != nil {
			panic(err)
		}
		request := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(r.Body))
		for name, value := range r.Headers {
			request.Header.Set(name, value)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		accepted = append(accepted, answer.Code == http.StatusNoContent)
	}
	text, _ := json.Marshal(accepted)
	fmt.Println(string(text))
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	list := requests(t)
	var got []bool
	run(t, list, &got, nil, "go", "run", driver, path)
	compare(t, list, got)
}

// The PHP receiver is served by PHP's own web server.
func TestReceiverInPHP(t *testing.T) {
	t.Parallel()
	list := requests(t)
	base := servePHP(t, snippet(t, "php", "receiver.php"), "WEBHOOK_SECRETS="+strings.Join(list[0].Secrets, ","))
	client := &http.Client{Timeout: time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	var got []bool
	for _, r := range list {
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
		if err != nil || len(text) > 0 || resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: status %d, %q, %v", r.name, resp.StatusCode, text, err)
		}
		got = append(got, resp.StatusCode == http.StatusNoContent)
	}
	compare(t, list, got)
}

// servePHP serves a script until the test ends. Its output says when it listens.
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
