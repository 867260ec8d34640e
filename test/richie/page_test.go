//go:build e2e

package richie

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// operator follows docs/richie.md, with a database of their own.
type operator struct {
	folder  string // has the program, the secrets and the other files of the page
	env     []string
	blocks  map[string]string
	replace *strings.Replacer
}

func newOperator(t *testing.T, p *portal) *operator {
	t.Helper()
	o := &operator{folder: t.TempDir(), blocks: harness.Blocks(t, "richie.md")}
	database, err := fakes.StartDatabase()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := database.Close(); err != nil {
			t.Error(err)
		}
	})
	o.env = append(os.Environ(), "PATH="+o.folder+string(os.PathListSeparator)+os.Getenv("PATH"),
		"WEBHOOK_DISPATCHER_MYSQL_DSN="+database.DSN(),
		"WEBHOOK_DISPATCHER_SECRETS_KEY=k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
		"WEBHOOK_DISPATCHER_EGRESS_ALLOW=127.0.0.1/32",
		"WEBHOOK_DISPATCHER_RULES_SOURCE=adopted",
	)
	build := exec.Command("go", "build", "-o", filepath.Join(o.folder, "webhook-dispatcher"), "../../cmd/webhook-dispatcher")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	o.replace = strings.NewReplacer("https://richie.example.org", p.url, "/run/secrets", o.folder, " 12", " 1")
	o.write(t, "course.json", o.blocks["course"])
	return o
}

func (o *operator) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs shell commands of the page and returns what they print.
func (o *operator) run(t *testing.T, commands string) string {
	t.Helper()
	if commands == "" {
		t.Fatal("the page has no such block")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("bash", "-euc", o.replace.Replace(commands))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = o.folder, o.env, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", commands, err, &stdout, &stderr)
	}
	return stdout.String()
}

// call sends an event with `rules test` and returns the portal's answer, status 0 if none was sent.
func (o *operator) call(id, event string) (status int, answer string) {
	cmd := exec.Command(filepath.Join(o.folder, "webhook-dispatcher"), "rules", "test", id, "--event", event, "--send", "--json")
	cmd.Dir, cmd.Env = o.folder, o.env
	output, _ := cmd.Output() // it fails unless the answer is a 2xx
	var shown struct {
		Wanted bool
		Result *struct {
			Status   int
			Response string
		}
	}
	if err := json.Unmarshal(output, &shown); err != nil || shown.Result == nil {
		return 0, string(output)
	}
	return shown.Result.Status, shown.Result.Response
}

// TestPage does what the page says.
func TestPage(t *testing.T) {
	t.Parallel()
	p := startPortal(t, []string{"DemoX"}, "old secret")
	o := newOperator(t, p)
	o.write(t, "richie", "old secret\n")
	o.write(t, "richie-new", "new secret\n")
	o.run(t, "webhook-dispatcher migrate --with-plugin-tables")

	if id := o.run(t, o.blocks["add"]); id != "1\n" {
		t.Fatalf("rules add printed %q", id)
	}
	if shown := o.run(t, o.blocks["try"]); strings.Count(shown, "https://lms.example.org/courses/course-v1:edX+DemoX+2026/info") != 2 ||
		strings.Count(shown, "answer: 200") != 1 || !strings.Contains(shown, `{"success":true}`) || strings.Contains(shown, "old secret") {
		t.Errorf("rules test printed %s", shown)
	}
	const want = "https://lms.example.org/courses/course-v1:edX+DemoX+2026/info 2026-09-01T08:00:00Z 2026-12-18T22:59:59.999999Z null null " +
		"[en fr] 0 "
	runs := p.runs(t)
	if len(runs) != 2 || runs[0].String() != want+"course_and_search" || runs[1].String() != runs[0].String() {
		t.Errorf("the portal's course runs are %v", runs)
	}

	calls := startCalls(t, func() (int, string) { return o.call("1", "course.json") })
	calls.expect(t, "before", http.StatusOK)
	p.knows(t, "new secret", "old secret")
	calls.expect(t, "the portal knows both", http.StatusOK)
	o.run(t, o.blocks["rotate"])
	calls.expect(t, "the rule has the new one", http.StatusOK)
	p.knows(t, "new secret")
	calls.expect(t, "the portal knows the new one", http.StatusOK)

	o.write(t, "richie", "new secret\n")
	if ids := o.run(t, o.blocks["visibility"]); ids != "2\n3\n" {
		t.Fatalf("rules add printed %q", ids)
	}
	hidden := strings.Replace(o.blocks["course"], `"schedule_data"`, `"hidden": true, "schedule_data"`, 1)
	o.write(t, "hidden.json", hidden)
	o.write(t, "shown.json", strings.Replace(hidden, "true", "false", 1))
	for _, c := range []struct {
		id, event, visibility string
		status                int
	}{
		{"2", "hidden.json", "hidden", http.StatusOK},
		{"3", "hidden.json", "hidden", 0},
		{"1", "shown.json", "hidden", http.StatusOK}, // it does not set the visibility
		{"2", "shown.json", "hidden", 0},
		{"3", "shown.json", "course_and_search", http.StatusOK},
	} {
		status, answer := o.call(c.id, c.event)
		runs := p.runs(t)
		if status != c.status || len(runs) != 2 || runs[1].String() != want+c.visibility {
			t.Errorf("rule %s, %s: status %d, %s; the portal's course runs are %v", c.id, c.event, status, answer, runs)
		}
	}
}
