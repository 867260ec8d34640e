//go:build e2e

package webfilters

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// plugin is a Django process that calls filters.
type plugin struct {
	t       *testing.T
	input   io.Writer
	answers *bufio.Scanner
}

// outcome is what came of a call of a filter, in words of Python.
type outcome struct {
	Returned  string
	Pipeline  string // what the plugin gave back to the filter
	Raised    *raised
	Arguments map[string]string // by name, after the call
	// RequestException is set where the exception was raised because a request failed.
	RequestException bool `json:"request_exception"`
}

// raised is an exception that the filter's caller got.
type raised struct {
	Class, Message string
	Attributes     map[string]string
}

func (r *raised) String() string {
	if r == nil {
		return "nothing"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Class, r.Message)
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		fmt.Fprintf(&b, " %s=%s", name, r.Attributes[name])
	}
	return b.String()
}

// class returns the class without its module, "-" for nothing raised.
func (r *raised) class() string {
	if r == nil {
		return "-"
	}
	parts := strings.Split(r.Class, ".")
	return strings.Join(parts[max(0, len(parts)-2):], ".")
}

// python returns the interpreter that has the plugin, which the end-to-end tests have as well.
var python = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("../e2e/python/venv").Output()
	return strings.TrimSpace(string(out)), err
})

func startPlugin(t *testing.T) *plugin {
	t.Helper()
	interpreter, err := python()
	if err != nil {
		t.Fatalf("make the virtual environment: %v", err)
	}
	cmd := exec.Command(interpreter, "call_filters.py")
	cmd.Dir = "python"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "NO_PROXY=*")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
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
		_ = input.Close() // ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("the plugin's process: %v", err)
		}
	})
	p := &plugin{t: t, input: input, answers: bufio.NewScanner(output)}
	p.answers.Buffer(nil, 16<<20)
	var registered struct{ Filters []string }
	p.read(&registered)
	var known []string
	for _, f := range filters {
		known = append(known, f.name)
	}
	if slices.Sort(registered.Filters); !slices.Equal(registered.Filters, slices.Sorted(slices.Values(known))) {
		t.Fatalf("the plugin serves %v, the cases know %v", registered.Filters, known)
	}
	return p
}

// call runs a filter with rows.
func (p *plugin) call(filter string, rows []columns, arguments json.RawMessage) outcome {
	p.t.Helper()
	if rows == nil {
		rows = []columns{}
	}
	if arguments == nil {
		arguments = json.RawMessage("{}")
	}
	described, err := json.Marshal(map[string]any{"filter": filter, "rows": rows})
	if err != nil {
		panic(err)
	}
	// The arguments are not marshalled: Python takes numbers that encoding/json does not let pass.
	oneLine := bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, arguments)
	line := fmt.Sprintf("%s, \"arguments\": %s}\n", described[:len(described)-1], oneLine)
	if _, err := io.WriteString(p.input, line); err != nil {
		panic(fmt.Errorf("write to the plugin's process: %w", err))
	}
	var o outcome
	p.read(&o)
	return o
}

// read panics where there is no answer: the cases that wait have no use then.
func (p *plugin) read(into any) {
	if !p.answers.Scan() {
		panic(fmt.Errorf("the plugin's process has ended: %w", p.answers.Err()))
	}
	if err := json.Unmarshal(p.answers.Bytes(), into); err != nil {
		panic(fmt.Errorf("the plugin's process said %q: %w", p.answers.Text(), err))
	}
}
