//go:build e2e

// Package richie tests the preset richie against the newest version of Richie: a portal accepts
// what the dispatcher sends, and refuses what it should. It needs Python 3.12.
package richie

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// portal is a Richie that runs until the test ends.
type portal struct {
	url    string
	folder string
	client *http.Client
}

// startPortal starts a portal that has a course for each code and accepts the secrets.
func startPortal(t *testing.T, codes []string, secrets ...string) *portal {
	t.Helper()
	p := &portal{folder: t.TempDir(), client: &http.Client{Timeout: time.Minute}}
	p.knows(t, secrets...)
	cmd := exec.Command(harness.Python(t), append([]string{"site.py", p.folder}, codes...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+harness.Output(t, "", "./packages"), "PYTHONDONTWRITEBYTECODE=1")
	var log bytes.Buffer // read only after the process has ended
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the portal's log:\n%s", &log)
		}
	})
	if p.url, err = bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("the portal did not start: %v", err)
	}
	p.url = strings.TrimSpace(p.url)
	return p
}

// endpoint is the URL for synchronising course runs, as in Richie's documentation.
func (p *portal) endpoint() string { return p.url + "/api/v1.0/course-runs-sync/" }

// knows sets the secrets that the portal accepts from the next request on.
func (p *portal) knows(t *testing.T, secrets ...string) {
	t.Helper()
	path := filepath.Join(p.folder, "secrets")
	if err := os.WriteFile(path+".new", []byte(strings.Join(secrets, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil { // no request sees half a file
		t.Fatal(err)
	}
}

// courseRun is a course run in Richie's API.
type courseRun struct {
	ID                int        `json:"id"`
	ResourceLink      string     `json:"resource_link"`
	Start             *time.Time `json:"start"`
	End               *time.Time `json:"end"`
	EnrollmentStart   *time.Time `json:"enrollment_start"`
	EnrollmentEnd     *time.Time `json:"enrollment_end"`
	Languages         []string   `json:"languages"`
	EnrollmentCount   int        `json:"enrollment_count"`
	CatalogVisibility string     `json:"catalog_visibility"`
}

// String shows the run without its id, and times in UTC.
func (r *courseRun) String() string {
	text := r.ResourceLink
	for _, at := range []*time.Time{r.Start, r.End, r.EnrollmentStart, r.EnrollmentEnd} {
		if at == nil {
			text += " null"
		} else {
			text += " " + at.UTC().Format("2006-01-02T15:04:05.999999999Z")
		}
	}
	return fmt.Sprintf("%s %v %d %s", text, r.Languages, r.EnrollmentCount, r.CatalogVisibility)
}

// runs returns all course runs of the portal by id. Each exists as a draft and as a public one.
func (p *portal) runs(t *testing.T) []courseRun {
	t.Helper()
	var all []courseRun
	for id := 1; ; id++ {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/api/v1.0/course-runs/%d/", p.url, id), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusNotFound {
			return all
		}
		var run courseRun
		if err := json.Unmarshal(text, &run); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("course run %d: status %d, %s, %v", id, resp.StatusCode, text, err)
		}
		all = append(all, run)
	}
}
