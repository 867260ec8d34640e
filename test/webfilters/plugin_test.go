//go:build e2e

package webfilters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// plugin is a Django process that calls filters.
type plugin struct {
	t      *testing.T
	django *harness.Dialogue
}

// outcome is the result of calling a filter, in Python's spelling.
type outcome struct {
	Returned  string
	Pipeline  string // what the plugin returned to the filter
	Raised    *raised
	Arguments map[string]string // by name, after the call
	// RequestException says that the exception was raised because a request failed.
	RequestException bool `json:"request_exception"`
}

// raised is the exception that the filter's caller got.
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

// class returns the class without its module, "-" if nothing was raised.
func (r *raised) class() string {
	if r == nil {
		return "-"
	}
	parts := strings.Split(r.Class, ".")
	return strings.Join(parts[max(0, len(parts)-2):], ".")
}

func startPlugin(t *testing.T) *plugin {
	t.Helper()
	cmd := exec.Command(harness.Python(t), "call_filters.py")
	cmd.Dir = "python"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "NO_PROXY=*")
	cmd.Stderr = os.Stderr
	p := &plugin{t: t, django: harness.StartDialogue(t, cmd)}
	var registered struct{ Filters []string }
	answer, err := p.django.Read()
	parse(answer, err, &registered)
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
	// The arguments are not marshalled, because Python accepts numbers that encoding/json does not.
	oneLine := bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, arguments)
	var o outcome
	answer, err := p.django.Ask(fmt.Sprintf("%s, \"arguments\": %s}", described[:len(described)-1], oneLine))
	parse(answer, err, &o)
	return o
}

// parse parses an answer. It panics if there is none, because other cases cannot run without the
// plugin.
func parse(answer []byte, err error, into any) {
	if err == nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		panic(fmt.Errorf("the plugin's process said %q: %w", answer, err))
	}
}
