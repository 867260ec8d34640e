package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
)

// maxFile is the maximum size of a settings or secret file; more is a mistake, such as a device.
const maxFile = 1 << 20

// fileValue is a setting's text in the settings file, and its position.
type fileValue struct {
	text string
	key  string // as written, after those of the enclosing mappings
	line int
}

// parseFile reads the settings of a YAML file by flag name. Nested mappings join their names with a
// hyphen (rules: {source: enabled} is rules-source), lists their items with commas. Problems
// contain no values: one may be a secret under a misspelt key.
func parseFile(path string, data []byte, known map[string]setting) (map[string]fileValue, []Problem) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if strings.Contains(text, "alphabetic or numeric") || strings.Contains(text, "unknown anchor") {
			text += `; text that begins with * or & needs quotes, as in topics: "*"`
		}
		return nil, []Problem{{Env: path, Text: "is not YAML: " + text}}
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	f := fileReader{path: path, known: known, values: make(map[string]fileValue)}
	f.mapping("", "", doc.Content[0])
	return f.values, f.problems
}

type fileReader struct {
	path     string
	known    map[string]setting
	values   map[string]fileValue
	problems []Problem
}

func (f *fileReader) problem(node *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, Problem{Env: fmt.Sprintf("%s:%d", f.path, node.Line), Text: fmt.Sprintf(format, args...)})
}

// mapping reads a mapping. shown is its path as written, prefix the same in normal form.
func (f *fileReader) mapping(shown, prefix string, node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		f.problem(node, "holds no settings: write one key: value per line")
		return
	}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		f.entry(shown+key.Value, prefix+flagName(key.Value), key, value)
	}
}

func (f *fileReader) entry(shown, name string, key, value *yaml.Node) {
	s, known := f.known[name]
	_, twice := f.values[name]
	text, ok := scalarText(value)
	switch {
	case !known && value.Kind == yaml.MappingNode:
		f.mapping(shown+".", name+"-", value)
	case !known:
		fix := "see --help for the names"
		if near := suggest.Nearest(name, slices.Collect(maps.Keys(f.known))); near != "" {
			fix = fmt.Sprintf("did you mean %s?", near)
		}
		f.problem(key, "no setting is called %q: %s", shown, fix)
	case !s.inFile:
		f.problem(key, "the key %q is not allowed in the file: give it as a flag or in the environment", shown)
	case twice:
		f.problem(key, "the key %q is given twice: remove one", shown)
	case !ok:
		f.problem(key, "the key %q holds neither a value nor a list of values", shown)
	case value.Tag == "!!null":
		// As if absent: a template may have rendered nothing.
	default:
		f.values[name] = fileValue{text, shown, key.Line}
	}
}

// scalarText returns the text of a value, or of a list's items joined with commas.
func scalarText(node *yaml.Node) (string, bool) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind == yaml.ScalarNode {
		return node.Value, true
	}
	if node.Kind != yaml.SequenceNode {
		return "", false
	}
	items := make([]string, len(node.Content))
	for i, item := range node.Content {
		if item.Kind != yaml.ScalarNode {
			return "", false
		}
		items[i] = item.Value
	}
	return strings.Join(items, listSeparator), true
}

// fileFault says why a file cannot be read, without its name.
func fileFault(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err.Error()
	}
	return err.Error()
}
