package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

const (
	page       = "../../docs/settings.md"
	tableBegin = "<!-- settings: written by `go test ./internal/config -run Settings -update` -->\n"
	tableEnd   = "<!-- end of settings -->\n"
)

// TestSettingsPage holds the table of docs/settings.md to what the program knows.
func TestSettingsPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatalf("%s lacks the marks of its table of settings", page)
	}
	want := before + tableBegin + settingsTable() + tableEnd + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("the table of settings in %s is not up to date: run `go test ./internal/config -run Settings -update`", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func settingsTable() string {
	defaults := map[string]string{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for f := range typ.Fields() {
			if f.Anonymous {
				walk(f.Type)
			} else {
				defaults[f.Tag.Get("setting")] = f.Tag.Get("default")
			}
		}
	}
	walk(reflect.TypeFor[Config]())
	var b strings.Builder
	b.WriteString("\n| environment | meaning | default |\n|---|---|---|\n")
	for _, s := range allSettings() {
		// Each secret's _FILE is said once, above the table.
		if s.field == "" || strings.HasSuffix(s.env, "_FILE") && !strings.HasSuffix(s.env, "_CA_FILE") {
			continue
		}
		text := ""
		if d := defaults[s.env]; d != "" {
			text = "`" + d + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.env, strings.ReplaceAll(helpTexts()[s.env], "|", "\\|"), text)
	}
	b.WriteString("\n")
	return b.String()
}
