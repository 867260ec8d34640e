// Package architecture_test enforces the import table of the design and a limit on the length of
// files.
package architecture_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/openedx-webhooks/webhook-dispatcher"
	root   = "../.."
)

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	for _, edge := range list(t, "-tags=e2e", "./...") {
		for _, fault := range faults(edge) {
			t.Error(fault)
		}
	}
}

func TestDaemonLinksNothingMeantForTests(t *testing.T) {
	t.Parallel()
	deps := list(t, "-deps", "./cmd/webhook-dispatcher")
	if !slices.ContainsFunc(deps, func(dep listed) bool { return dep.ImportPath == module+"/cmd/webhook-dispatcher" }) {
		t.Fatal("go list does not know the daemon's main package, cmd/webhook-dispatcher")
	}
	for _, dep := range deps {
		for _, barred := range notLinked {
			if within(dep.ImportPath, barred) {
				t.Errorf("the daemon links %s, which is for tests and the sandbox; `go list -deps` and `go mod why` show the path",
					dep.ImportPath)
			}
		}
	}
}

// TestFilesAreReadable limits the length of source files. Reading them also makes go's test cache
// depend on them: it does not see what `go list` reads.
func TestFilesAreReadable(t *testing.T) {
	t.Parallel()
	checked := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != root || entry.Name() == "testdata" || name == "tools") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" && entry.Name() != "go.mod" {
			return nil
		}
		lines, err := countLines(path)
		if err != nil {
			return err
		}
		if filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
			checked++
			if limit := lineLimit(name); lines > limit {
				t.Errorf("%s has %d lines, more than %d: a file is read at one sitting; split it by stage or by noun", name, lines, limit)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("walk the source files: %v", err)
	}
	if checked == 0 {
		t.Fatal("found no source files")
	}
}

func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, from, to string
		want           string // part of the message; empty if the edge is allowed
	}{
		{"allowed edge", "internal/rule", module + "/internal/delivery", ""},
		{"plain standard library", "internal/payload", "strings", ""},
		{"wrong way", "internal/delivery", module + "/internal/rule", "internal/delivery must not import internal/rule"},
		{"shared package", "internal/secret", module + "/internal/backoff", ""},
		{"shared module", "internal/secret", "golang.org/x/time/rate", ""},
		{"foreign module", "internal/dispatch", "github.com/segmentio/kafka-go", "kafka-go: its row has no such module"},
		{"allowed module", "internal/bus/kafka", "github.com/segmentio/kafka-go/sasl/plain", ""},
		{"module that only begins alike", "internal/bus/kafka", "github.com/segmentio/kafka-gox", "must not import"},
		{"guarded standard package", "internal/payload", "net/http", "net/http: only packages whose row names it"},
		{"allowed standard package", "internal/egress", "net/http", ""},
		{"package below another", "internal/store/conformance", module + "/internal/store", ""},
		{"package below another has its row", "internal/store/conformance", "github.com/segmentio/kafka-go", "must not import"},
		{"embedded in the daemon", "internal/app", module + "/internal/fakes", "must not import internal/fakes"},
		{"harness of the tests in a program", "cmd/sandbox", module + "/test/e2e/harness", "must not import test/e2e/harness"},
		{"embedded in the sandbox", "cmd/sandbox", module + "/internal/fakes", ""},
		{"no row", "internal/util", "strings", "internal/util has no row"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := faults(listed{ImportPath: module + "/" + test.from, Imports: []string{test.to}})
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("unexpected: %v", got)
			case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
				t.Errorf("got %q, want one message with %q", got, test.want)
			}
		})
	}
}

// listed is what `go list` says about a package. Imports has no imports of test files.
type listed struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
}

// list runs `go list` in the module's root. It also lists packages that do not compile.
func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-e", "-json=ImportPath,Imports,GoFiles"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var one listed
		if err := dec.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("read what %s printed: %v", cmd, err)
		}
		if len(one.GoFiles) > 0 { // else it has only test files
			all = append(all, one)
		}
	}
}

// faults returns a message for each import that the table does not allow.
func faults(pkg listed) []string {
	from := strings.TrimPrefix(pkg.ImportPath, module+"/")
	rule, ok := rowOf(from)
	if !ok {
		return []string{from + " has no row in the import table of test/architecture: add one that says what it may know"}
	}
	var out []string
	for _, imported := range pkg.Imports {
		if why := barred(rule, imported); why != "" {
			out = append(out, fmt.Sprintf("%s must not import %s: %s (import table of test/architecture)",
				from, strings.TrimPrefix(imported, module+"/"), why))
		}
	}
	return out
}

// barred returns why a row bars an import, "" if it does not.
func barred(rule row, imported string) string {
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case slices.ContainsFunc(shared, func(all string) bool { return within(imported, all) }):
	case strings.HasPrefix(imported, module+"/"):
		if ours := strings.TrimPrefix(imported, module+"/"); !mayUse(rule, ours) {
			return "its row names " + orNothing(rule.ours)
		}
	case strings.Contains(first, "."):
		if !slices.ContainsFunc(rule.others, func(module string) bool { return within(imported, module) }) {
			return "its row has no such module"
		}
	case slices.Contains(guardedStd, imported) && !slices.Contains(rule.guarded, imported):
		return "only packages whose row names it may use it"
	}
	return ""
}

// mayUse reports whether the row allows a package of this module, given without the module's path.
func mayUse(rule row, ours string) bool {
	if within(ours, rule.pkg) {
		return true // a package and those below it share a row
	}
	if slices.ContainsFunc(rule.ours, func(allowed string) bool { return within(ours, allowed) }) {
		return true
	}
	return slices.Contains(rule.ours, everything) &&
		!slices.ContainsFunc(notLinked, func(barred string) bool { return within(module+"/"+ours, barred) })
}

// rowOf returns the row of a package, or of the nearest one above it.
func rowOf(pkg string) (row, bool) {
	for at := pkg; at != "."; at = filepath.ToSlash(filepath.Dir(at)) {
		if i := slices.IndexFunc(table, func(r row) bool { return r.pkg == at }); i >= 0 {
			return table[i], true
		}
	}
	return row{}, false
}

// within reports whether path is at or below root, by whole elements.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing of this module"
	}
	return strings.Join(names, ", ")
}

func lineLimit(name string) int {
	for _, limit := range lineLimits {
		if strings.HasPrefix(name, limit.under) {
			return limit.lines
		}
	}
	return 0
}

func countLines(path string) (int, error) {
	text, err := os.ReadFile(path)
	return bytes.Count(text, []byte("\n")), err
}
