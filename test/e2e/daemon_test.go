//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is a running `webhook-dispatcher serve`.
type daemon struct {
	t     *testing.T
	cmd   *exec.Cmd
	log   *logFile
	ended chan struct{}
	addr  string
}

// logFile keeps what a process writes.
type logFile struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// launch starts a daemon with more settings and returns at once.
func (s *site) launch(settings ...string) *daemon {
	s.t.Helper()
	d := &daemon{t: s.t, cmd: exec.Command(s.w.binary, "serve"), log: &logFile{}, ended: make(chan struct{})}
	d.cmd.Env = s.environment("serve", settings...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	s.t.Cleanup(func() {
		d.kill()
		if s.t.Failed() {
			s.t.Logf("end of the log of daemon %d:\n%s", d.cmd.Process.Pid, lastLines(d.log.String(), 60))
		}
		d.checkLog()
	})
	return d
}

// serve starts a daemon and waits until it is ready and the group has given it partitions.
func (s *site) serve(settings ...string) *daemon {
	s.t.Helper()
	d := s.launch(settings...)
	d.waitReady(30 * time.Second)
	eventually(s.t, 30*time.Second, "partitions assigned", func() error {
		n, err := d.metric("webhook_dispatcher_bus_partitions_assigned")
		if err == nil && n == 0 {
			err = errors.New("none")
		}
		return err
	})
	return d
}

// canaries are what no output of the daemon may hold: paths and queries of hooks, and learners' data.
var canaries = []string{secretPath, "example.edu", "learner1", "Zoë"}

// faults are what the log of a sound program never holds.
var faults = regexp.MustCompile(`(?m)^panic:|^goroutine \d+ \[|DATA RACE|"level":"(?:PANIC|FATAL)"`)

func (d *daemon) checkLog() {
	text := d.log.String()
	for _, canary := range canaries {
		if at := strings.Index(text, canary); at >= 0 {
			d.t.Errorf("the log holds %q: %s", canary, text[max(0, at-200):min(len(text), at+100)])
		}
	}
	if at := faults.FindStringIndex(text); at != nil {
		d.t.Errorf("the daemon has crashed: %s", text[at[0]:min(len(text), at[0]+4000)])
	}
}

// address returns where the daemon serves health and metrics, which is in its log.
func (d *daemon) address() (string, error) {
	if d.addr != "" {
		return d.addr, nil
	}
	for line := range strings.Lines(d.log.String()) {
		var entry struct{ Msg, Component, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" && entry.Component == "health" {
			d.addr = entry.Address
			return d.addr, nil
		}
	}
	select {
	case <-d.ended:
		d.t.Fatalf("the daemon has ended:\n%s", lastLines(d.log.String(), 20))
	default:
	}
	return "", errors.New("the daemon has not started")
}

var probes = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get asks one of the daemon's routes.
func (d *daemon) get(path string) (status int, body string, err error) {
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

// waitReady waits until /readyz answers 200.
func (d *daemon) waitReady(limit time.Duration) time.Duration {
	d.t.Helper()
	return eventually(d.t, limit, "/readyz", func() error {
		status, body, err := d.get("/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
}

// waitTrouble waits until /readyz answers 503 and says of a part what is wanted, and returns all that it says of it.
func (d *daemon) waitTrouble(part, says string, limit time.Duration) string {
	d.t.Helper()
	var found string
	eventually(d.t, limit, "trouble of "+part+" in /readyz", func() error {
		status, body, err := d.get("/readyz")
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
		return errors.Join(err, want("status", status, http.StatusServiceUnavailable))
	})
	return found
}

// metric returns the value of one series, or the sum of all series of a name without labels.
func (d *daemon) metric(series string) (float64, error) {
	_, body, err := d.get("/metrics")
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, series)
		if !ok || strings.HasPrefix(line, "#") || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			return 0, err
		}
		sum, found = sum+value, true
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", series)
	}
	return sum, nil
}

// metricIs waits until a metric has a value.
func (d *daemon) metricIs(series string, value float64, limit time.Duration) {
	d.t.Helper()
	eventually(d.t, limit, series, func() error {
		got, err := d.metric(series)
		if err != nil {
			return err
		}
		return want("it", got, value)
	})
}

// notices does something that changes the rules, and waits until the daemon has read them.
func (d *daemon) notices(change func()) {
	d.t.Helper()
	const changes = `webhook_dispatcher_rule_refreshes_total{result="changed"}`
	before, err := d.metric(changes)
	if err != nil {
		d.t.Fatal(err)
	}
	change()
	eventually(d.t, 10*time.Second, "the daemon to read the rules", func() error {
		now, err := d.metric(changes)
		if err == nil && now == before {
			err = errors.New("it has not")
		}
		return err
	})
}

func (d *daemon) signal(s syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatalf("send %s: %v", s, err)
	}
}

// kill ends the daemon at once, as a crash of its machine does.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// terminate sends SIGTERM and waits for the end, which must come in time and be a good one.
func (d *daemon) terminate() time.Duration {
	d.t.Helper()
	begun := time.Now()
	d.signal(syscall.SIGTERM)
	if code := d.exit(stopTime); code != 0 {
		d.t.Fatalf("exit code %d after SIGTERM", code)
	}
	return since(begun)
}

// exit waits for the end of the daemon and returns its exit code, -1 after a signal.
func (d *daemon) exit(limit time.Duration) int {
	d.t.Helper()
	select {
	case <-d.ended:
	case <-time.After(limit):
		d.t.Fatalf("the daemon has not ended within %s", limit)
	}
	return d.cmd.ProcessState.ExitCode()
}
