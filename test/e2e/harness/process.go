//go:build e2e

package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// repository returns the root of the repository. Tests run in their package's folder, two below it.
func repository() (string, error) { return filepath.Abs("../..") }

var interpreter = sync.OnceValues(func() (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	out, err := exec.Command(filepath.Join(root, "test/e2e/python/venv")).Output()
	if err != nil {
		return "", fmt.Errorf("make the Python environment: %w", withStderr(err))
	}
	return strings.TrimSpace(string(out)), nil
})

// Python returns the path of a Python that has the plugin and the platform's packages. The first
// call of a run creates the virtual environment if there is none.
func Python(t *testing.T) string {
	t.Helper()
	path, err := interpreter()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Output runs a command in dir, the test's own folder if empty, and returns what it prints without
// the space around it.
func Output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, withStderr(err))
	}
	return strings.TrimSpace(string(out))
}

// withStderr adds what a command wrote to an error of exec's Output.
func withStderr(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w\n%s", err, LastLines(string(exit.Stderr), 20))
	}
	return err
}

// LastLines returns the last n lines of text.
func LastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Together runs functions concurrently and joins their errors.
func Together(functions ...func() error) error {
	errs := make([]error, len(functions))
	var group sync.WaitGroup
	for i, f := range functions {
		group.Go(func() { errs[i] = f() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// Dialogue is a process that answers every line it reads with a line. It is for one goroutine.
type Dialogue struct {
	input   io.Writer
	answers *bufio.Scanner
}

// StartDialogue starts a command. The end of the test closes its input and waits for it to exit,
// which must be with code 0.
func StartDialogue(t *testing.T, cmd *exec.Cmd) *Dialogue {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive the test
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
	})
	d := &Dialogue{input: input, answers: bufio.NewScanner(output)}
	d.answers.Buffer(nil, 16<<20)
	return d
}

// Ask sends a line, which must not hold a line break, and returns the answer.
func (d *Dialogue) Ask(line string) ([]byte, error) {
	if _, err := io.WriteString(d.input, line+"\n"); err != nil {
		return nil, fmt.Errorf("write to the process: %w", err)
	}
	return d.Read()
}

// Read returns the next line that the process prints, valid until the next call.
func (d *Dialogue) Read() ([]byte, error) {
	if !d.answers.Scan() {
		return nil, fmt.Errorf("the process has ended: %w", errors.Join(d.answers.Err(), io.EOF))
	}
	return d.answers.Bytes(), nil
}
