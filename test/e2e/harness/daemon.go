//go:build e2e

package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Daemon is a running `webhook-dispatcher serve`.
type Daemon struct {
	t     *testing.T
	cmd   *exec.Cmd
	Log   *LogFile // its standard output and error
	ended chan struct{}
	addr  string
}

// LogFile keeps what a process writes. It is safe for concurrent use.
type LogFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns everything written so far.
func (l *LogFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Launch starts a daemon and returns at once. Settings are NAME=VALUE and override those of the
// site. The end of the test kills the daemon and checks its log for secrets and crashes.
func (s *Site) Launch(settings ...string) *Daemon {
	s.T.Helper()
	d := &Daemon{t: s.T, cmd: exec.Command(s.binary, "serve"), Log: &LogFile{}, ended: make(chan struct{})}
	d.cmd.Env = s.environment("serve", settings...)
	d.cmd.Stdout, d.cmd.Stderr = d.Log, d.Log
	if err := d.cmd.Start(); err != nil {
		s.T.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	s.T.Cleanup(func() {
		d.Kill()
		if s.T.Failed() {
			s.T.Logf("end of the log of daemon %d:\n%s", d.cmd.Process.Pid, LastLines(d.Log.String(), 60))
		}
		d.checkLog()
	})
	return d
}

// Serve launches a daemon and waits until it is ready and has partitions.
func (s *Site) Serve(settings ...string) *Daemon {
	s.T.Helper()
	d := s.Launch(settings...)
	d.WaitReady(30 * time.Second)
	Eventually(s.T, 30*time.Second, "partitions assigned", func() error {
		n, err := d.Metric("webhook_dispatcher_bus_partitions_assigned")
		if err == nil && n == 0 {
			err = errors.New("none")
		}
		return err
	})
	return d
}

// Canaries must not appear in any output of the daemon: paths and queries of hooks, learners' data.
var Canaries = []string{SecretPath, "example.edu", "learner1", "Zoë"}

// faults match the log of a program that has crashed.
var faults = regexp.MustCompile(`(?m)^panic:|^goroutine \d+ \[|DATA RACE|"level":"(?:PANIC|FATAL)"`)

func (d *Daemon) checkLog() {
	text := d.Log.String()
	for _, canary := range Canaries {
		if at := strings.Index(text, canary); at >= 0 {
			d.t.Errorf("the log holds %q: %s", canary, text[max(0, at-200):min(len(text), at+100)])
		}
	}
	if at := faults.FindStringIndex(text); at != nil {
		d.t.Errorf("the daemon has crashed: %s", text[at[0]:min(len(text), at[0]+4000)])
	}
}

// address reads from the log where the daemon serves health and metrics.
func (d *Daemon) address() (string, error) {
	if d.addr != "" {
		return d.addr, nil
	}
	for line := range strings.Lines(d.Log.String()) {
		var entry struct{ Msg, Component, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" && entry.Component == "health" {
			d.addr = entry.Address
			return d.addr, nil
		}
	}
	select {
	case <-d.ended:
		d.t.Fatalf("the daemon has ended:\n%s", LastLines(d.Log.String(), 20))
	default:
	}
	return "", errors.New("the daemon has not started")
}

var probes = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Get requests a path of the daemon's health and metrics server.
func (d *Daemon) Get(path string) (status int, body string, err error) {
	addr, err := d.address()
	if err != nil {
		return 0, "", err
	}
	response, err := probes.Get("http://" + addr + path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// WaitReady waits until /readyz answers 200.
func (d *Daemon) WaitReady(limit time.Duration) time.Duration {
	d.t.Helper()
	return Eventually(d.t, limit, "/readyz", func() error {
		status, body, err := d.Get("/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

// WaitNotReady waits until /readyz answers 503 with an error of that part which contains says,
// whatever the case, and returns the error.
func (d *Daemon) WaitNotReady(part, says string, limit time.Duration) string {
	d.t.Helper()
	var found string
	Eventually(d.t, limit, "/readyz to report an error of "+part, func() error {
		status, body, err := d.Get("/readyz")
		if err != nil {
			return err
		}
		var answer struct {
			Parts []struct{ Name, Error string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			return err
		}
		found = ""
		for _, p := range answer.Parts {
			if p.Name == part {
				found = p.Error
			}
		}
		if found == "" || !strings.Contains(strings.ToLower(found), strings.ToLower(says)) {
			err = fmt.Errorf("%q, want %q in it", found, says)
		}
		return errors.Join(err, Want("status", status, http.StatusServiceUnavailable))
	})
	return found
}

// Signal sends the daemon a signal.
func (d *Daemon) Signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatalf("send %s: %v", s, err)
	}
}

// Kill ends the daemon with SIGKILL, as a crash of its machine would, and waits for its end.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// Terminate sends SIGTERM and returns how long the daemon took to exit. It must exit with code 0
// within StopTime.
func (d *Daemon) Terminate() time.Duration {
	d.t.Helper()
	begun := time.Now()
	d.Signal(syscall.SIGTERM)
	if code := d.WaitExit(StopTime); code != 0 {
		d.t.Fatalf("exit code %d after SIGTERM", code)
	}
	return Since(begun)
}

// WaitExit waits until the daemon exits and returns its exit code, -1 after a signal.
func (d *Daemon) WaitExit(limit time.Duration) int {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(limit):
		d.t.Fatalf("the daemon has not ended within %s", limit)
	}
	return d.cmd.ProcessState.ExitCode()
}

// StopTime is how long the daemon may take to exit after SIGTERM.
const StopTime = 25 * time.Second
