package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// docs are the pages, seen from the folder of this package.
const docs = "../../docs"

// runExamples runs "examples PAGE": the commands of the page's console blocks, which must succeed,
// and print the lines that stand below them, each somewhere, … for anything. /run/secrets is the
// folder secrets of the script. Before a section the statements of before/SECTION.sql are run,
// where there is such a file.
func runExamples(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: examples PAGE")
	}
	page, err := os.ReadFile(filepath.Join(docs, args[0]))
	ts.Check(err)
	secrets := filepath.Join(ts.Getenv("WORK"), "secrets")
	exports, console, commands := "", false, 0
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		command, is := strings.CutPrefix(line, "$ ")
		switch section, heading := strings.CutPrefix(line, "## "); {
		case strings.HasPrefix(line, "```"):
			console = line == "```console"
		case heading:
			if before := filepath.Join("before", section+".sql"); exists(ts.MkAbs(before)) {
				runSQL(ts, false, []string{before})
			}
		case !console:
		case is && strings.HasPrefix(command, "export "):
			exports += command + "; "
		case is:
			commands++
			if err := ts.Exec("sh", "-c", exports+strings.ReplaceAll(command, "/run/secrets", secrets)); err != nil {
				ts.Fatalf("%s: %v", command, err)
			}
			noSecrets(ts)
		case !printed(ts.ReadFile("stdout"), line):
			ts.Fatalf("this was not printed: %s", line)
		}
	}
	if commands == 0 {
		ts.Fatalf("%s has no console block", args[0])
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// printed tells whether a line is among the output's, spaces between columns not counted.
func printed(output, line string) bool {
	fields := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	want := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(fields(line)), "…", ".*") + "$")
	for got := range strings.Lines(output) {
		if want.MatchString(fields(got)) {
			return true
		}
	}
	return false
}
