//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bench holds what all tests share. The first test that asks for it starts it, TestMain stops it.
var bench workbench

// workbench is the daemon's binary, the servers and the interpreter of the stand-in for the LMS.
type workbench struct {
	once sync.Once
	err  error

	root   string // of the repository
	dir    string // data of the servers, and the binary
	kept   bool   // dir and the servers outlive the run
	run    string // stands in the names of this run's topics, groups and databases
	binary string
	python string

	kafka, registry, mariadb *server

	reaper      *exec.Cmd
	reaperInput io.Closer

	mu      sync.Mutex // guards figures
	figures []string
}

// figure notes what a test has measured, for its log and for the table at the end of the run.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	bench.mu.Lock()
	defer bench.mu.Unlock()
	bench.figures = append(bench.figures, fmt.Sprintf("%-46s %s", strings.TrimPrefix(t.Name(), "Test"), text))
}

// shared returns the workbench, started.
func shared(t *testing.T) *workbench {
	t.Helper()
	bench.once.Do(func() { bench.err = bench.start() })
	if bench.err != nil {
		t.Fatalf("start the servers: %v", bench.err)
	}
	return &bench
}

func (w *workbench) start() error {
	var err error
	if w.root, err = filepath.Abs("../.."); err != nil {
		return err
	}
	suffix := make([]byte, 3)
	rand.Read(suffix)
	w.run = "e2e" + hex.EncodeToString(suffix)
	w.dir = os.Getenv("WEBHOOK_DISPATCHER_E2E_DIR")
	w.kept = w.dir != ""
	if !w.kept {
		if w.dir, err = os.MkdirTemp("", "webhook-dispatcher-e2e-"); err != nil {
			return err
		}
	}
	if err := w.startReaper(); err != nil {
		return err
	}
	w.binary = filepath.Join(w.dir, "webhook-dispatcher-"+w.run)
	w.kafka = w.server("kafka", "--secure", "--partitions", "1")
	w.registry = w.server("registry")
	w.mariadb = w.server("mariadb")
	return together(
		func() error { return w.command("go", "build", "-o", w.binary, "./cmd/webhook-dispatcher") },
		w.kafka.up, w.registry.up,
		func() error {
			python, err := exec.Command(filepath.Join(w.root, "test/e2e/python/venv")).Output()
			if err != nil {
				return fmt.Errorf("make the Python environment: %w", withStderr(err))
			}
			w.python = strings.TrimSpace(string(python))
			if err := w.mariadb.up(); err != nil {
				return err
			}
			return w.django("openedx", "migrate", "-v", "0").Run()
		},
	)
}

// startReaper starts the process that stops the servers and the daemons of this run when this process ends, however it ends: a
// test that panics or runs into go test's time limit runs no clean-up.
func (w *workbench) startReaper() error {
	const script = `trap '' INT TERM HUP
cat >/dev/null
for process in /proc/[0-9]*; do
  if [[ $(readlink "$process/exe") == "$1"* ]]; then kill -KILL "${process#/proc/}"; fi
done
rm -f "$1"
shopt -s nullglob
servers=("$2"/*/) all=1
if [[ $3 ]]; then servers=("$2"/*-"$3"-*/) all=''; fi
if [[ ${servers[*]} ]]; then "$4/test/e2e/services/down" --kill "${servers[@]}"; fi
if [[ $all ]]; then rm -rf "$2"; else rm -rf "${servers[@]}"; fi`
	only := "" // the servers of this run
	if w.kept {
		only = w.run
	}
	w.reaper = exec.Command("bash", "-c", script, "reaper", filepath.Join(w.dir, "webhook-dispatcher-"+w.run), w.dir, only, w.root)
	w.reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := w.reaper.StdinPipe()
	if err != nil {
		return err
	}
	w.reaperInput = input
	return w.reaper.Start()
}

// stop stops all that was started, shows the ends of the servers' logs when tests have failed, and the table of figures.
func (w *workbench) stop(out io.Writer, failed bool) {
	for _, s := range []*server{w.kafka, w.registry, w.mariadb} {
		if s != nil && failed {
			fmt.Fprintf(out, "--- end of the log of %s:\n%s\n", s.name, s.tail(10))
		}
	}
	if w.reaper != nil {
		_ = w.reaperInput.Close()
		if err := w.reaper.Wait(); err != nil {
			fmt.Fprintln(out, "stop the servers:", err)
		}
	}
	slices.Sort(w.figures)
	for _, line := range w.figures {
		fmt.Fprintln(out, line)
	}
}

// command runs a command in the repository's root.
func (w *workbench) command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = w.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return nil
}

// server is a server that a script of services/ starts and stops.
type server struct {
	w       *workbench
	name    string
	dir     string
	port    int
	options []string // of the script; those of a database's own
	faked   []string // variables for it, as NAME=VALUE
}

// server returns a server that is not started yet. Its kind is its name up to the first hyphen.
func (w *workbench) server(name string, options ...string) *server {
	return &server{w: w, name: name, dir: filepath.Join(w.dir, name), options: options}
}

// ownServer starts a server for one test, which may restart it.
func ownServer(t *testing.T, name string, options ...string) *server {
	t.Helper()
	s := newServer(t, name, options...)
	s.own(t)
	return s
}

// newServer returns a server for one test that is not started yet.
func newServer(t *testing.T, kind string, options ...string) *server {
	t.Helper()
	w := shared(t)
	return w.server(fmt.Sprintf("%s-%s-%s", kind, w.run, notInNames.ReplaceAllString(strings.ToLower(t.Name()), "")), options...)
}

// sharedKafka returns the broker that all tests share.
func sharedKafka(t *testing.T) *server {
	t.Helper()
	return shared(t).kafka
}

// own starts the server, and stops it at the end of the test.
func (s *server) own(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", s.name, s.tail(10))
		}
		s.down(t, true)
		if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	if err := s.up(); err != nil {
		t.Fatal(err)
	}
}

// up starts the server, on the data and the port that it had before, and returns when it answers.
func (s *server) up() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	remembered := filepath.Join(s.dir, "port")
	if text, err := os.ReadFile(remembered); err == nil {
		s.port, _ = strconv.Atoi(string(text))
	}
	kind, _, _ := strings.Cut(s.name, "-")
	script := filepath.Join(s.w.root, "test/e2e/services", kind+"-up")
	var err error
	for range 3 { // a free port may be taken by the time it is used
		if s.port == 0 {
			s.port = freePorts(5)
		}
		args := slices.Concat(s.faked, []string{script}, s.options, []string{s.dir, strconv.Itoa(s.port)})
		if kind == "mariadb" || kind == "mysql" { // what comes last goes to the server
			args = slices.Concat(s.faked, []string{script, s.dir, strconv.Itoa(s.port)}, s.options)
		}
		if err = s.w.command("env", args...); err == nil {
			return os.WriteFile(remembered, []byte(strconv.Itoa(s.port)), 0o600)
		}
		if _, known := os.Stat(remembered); known == nil {
			break
		}
		s.port = 0
	}
	return fmt.Errorf("start %s: %w", s.name, err)
}

// down stops the server and waits until it has ended; its data stays.
func (s *server) down(t *testing.T, kill bool) {
	t.Helper()
	args := []string{s.dir}
	if kill {
		args = []string{"--kill", s.dir}
	}
	if err := s.w.command(filepath.Join(s.w.root, "test/e2e/services/down"), args...); err != nil {
		t.Error(err)
	}
}

func (s *server) address() string { return s.at(0) }

// at returns the address at one of the ports after the first.
func (s *server) at(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port+offset))
}

// tail returns the last lines of the server's log.
func (s *server) tail(lines int) string {
	text, err := os.ReadFile(filepath.Join(s.dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text), lines)
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// freePorts returns the first of n ports in a row that nobody listens at. They lie below those that the system gives out by itself.
func freePorts(n int) int {
	for {
		var random [2]byte
		rand.Read(random[:])
		first := 20000 + (int(random[0])<<8|int(random[1]))%1200*8
		free := true
		for port := first; port < first+n && free; port++ {
			l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if free = err == nil; free {
				_ = l.Close()
			}
		}
		if free {
			return first
		}
	}
}

// together runs functions at the same time and returns their errors.
func together(functions ...func() error) error {
	errs := make([]error, len(functions))
	var group sync.WaitGroup
	for i, f := range functions {
		group.Go(func() { errs[i] = f() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// withStderr adds what a command wrote to an error of Output.
func withStderr(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w\n%s", err, lastLines(string(exit.Stderr), 20))
	}
	return err
}

// stopTime is how long SIGTERM may take, by the promise of the daemon.
const stopTime = 25 * time.Second
