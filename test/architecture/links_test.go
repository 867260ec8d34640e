package architecture_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	link    = regexp.MustCompile(`\[([^\]]*)\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	// symbol is the text of a link to a declaration, Name or Type.Method, as code.
	symbol = regexp.MustCompile("^`(?:[A-Za-z]+\\.)?([A-Za-z0-9]+)`$")
)

// TestLinksLead holds the pages to the files, headings and declarations that they link to.
func TestLinksLead(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllSubmatch(fence.ReplaceAll(text, nil), -1) {
			checked++
			if fault := follow(page, string(found[1]), string(found[2])); fault != "" {
				t.Errorf("%s: %s", page, fault)
			}
		}
	}
	if checked == 0 {
		t.Fatal("found no links")
	}
}

// pages returns the paths of all Markdown files of the project.
func pages(t *testing.T) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && name != "." ||
			entry.Name() == "testdata" || entry.Name() == "node_modules"):
			return fs.SkipDir
		case path.Ext(name) == ".md":
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// follow returns what is wrong with a link of a page, "" if nothing is.
func follow(page, label, target string) string {
	to, err := url.Parse(target)
	if err != nil || to.Scheme != "" {
		return "" // other sites are not asked
	}
	name := page
	if to.Path != "" {
		name = path.Join(path.Dir(page), to.Path)
	}
	info, err := os.Stat(filepath.Join(root, name))
	switch {
	case err != nil:
		return fmt.Sprintf("%s leads to %s, which is not there", target, name)
	case info.IsDir():
		return ""
	}
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return err.Error()
	}
	if to.Fragment != "" && !slices.Contains(anchors(text), to.Fragment) {
		return fmt.Sprintf("%s: %s has no such heading", target, name)
	}
	if found := symbol.FindStringSubmatch(label); found != nil && path.Ext(name) == ".go" && !declares(text, found[1]) {
		return fmt.Sprintf("%s declares no %s", name, found[1])
	}
	return ""
}

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(page []byte) (all []string) {
	for _, found := range heading.FindAllSubmatch(fence.ReplaceAll(page, nil), -1) {
		title := strings.ToLower(string(bytes.TrimSpace(found[1])))
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return r
			}
			return -1
		}, title))
	}
	return all
}

func declares(source []byte, name string) bool {
	return regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type |var |const |\t)` + name + `\b`).Match(source)
}
