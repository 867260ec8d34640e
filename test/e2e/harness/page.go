//go:build e2e

package harness

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// block is code in a page of the documentation, below a comment that names it. It may be indented.
var block = regexp.MustCompile("(?s) *<!-- test: ([a-z-]+) -->\n *```[a-z]+\n(.*?)\n *```\n")

// Blocks returns the named blocks of code of a page of docs/, by name.
func Blocks(t *testing.T, page string) map[string]string {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, found := range block.FindAllStringSubmatch(string(text), -1) {
		blocks[found[1]] = found[2]
	}
	return blocks
}
