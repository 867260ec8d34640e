//go:build e2e

package harness

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// bench is what all tests of a run share. The first test that needs it starts it.
var bench workbench

// workbench holds the daemon's binary, the servers, and the Python that stands in for the LMS.
type workbench struct {
	once sync.Once
	err  error

	root   string // of the repository
	dir    string // has the servers' data and the binary
	kept   bool   // dir and the shared servers outlive the run
	run    string // prefix of this run's topics, groups and databases
	binary string
	python string

	kafka, registry, mariadb *Server

	reaper      *exec.Cmd
	reaperInput io.Closer

	mu      sync.Mutex // guards figures
	figures []string
}

// shared starts the workbench if necessary.
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
	if w.root, err = repository(); err != nil {
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
	return Together(
		func() error { return w.command("go", "build", "-o", w.binary, "./cmd/webhook-dispatcher") },
		w.kafka.Start, w.registry.Start,
		func() error {
			if w.python, err = interpreter(); err != nil {
				return err
			}
			if err := w.mariadb.Start(); err != nil {
				return err
			}
			return w.django("openedx", "migrate", "-v", "0").Run()
		},
	)
}

// startReaper starts a process that stops this run's servers and daemons when the test process
// ends. A test that panics or exceeds go test's time limit runs no cleanup.
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

// Stop stops what the tests of this run have shared, and writes the table of figures to out. After
// a failure it also writes the last lines of the servers' logs. TestMain calls it.
func Stop(out io.Writer, failed bool) {
	w := &bench
	for _, s := range []*Server{w.kafka, w.registry, w.mariadb} {
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

// command runs a command in the root of the repository.
func (w *workbench) command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = w.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return nil
}
