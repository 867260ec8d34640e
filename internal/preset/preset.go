// Package preset holds presets: ready-made options of rules for known receivers. A preset is a file in presets, which says what people
// have to give, and the options that come of it; another preset is another file with a golden file for the test, and no code.
// What it returns can be used as a rule's options. It knows neither rules nor secrets: it only says which secret a rule needs.
package preset

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

//go:embed presets/*.json
var files embed.FS

// Preset is options of a rule with parameters. It must not be changed.
type Preset struct {
	Name       string        `json:"name"`                 // lower-case letters, digits and hyphens; the name of the file
	Summary    string        `json:"summary"`              // one sentence for lists
	Event      string        `json:"event"`                // the signal constant that a rule of the preset is for
	Parameters []Parameter   `json:"parameters,omitempty"` // what people give for each rule, in the order to show them
	Secret     string        `json:"secret,omitempty"`     // which signing secret the rule must be given; "": none
	Options    rule.Document `json:"options"`              // what all rules of the preset have in common
}

// Parameter is what people give for a rule.
type Parameter struct {
	// Name is lower-case letters, digits and hyphens. Expressions see it in $params with underscores for the hyphens.
	Name     string   `json:"name"`
	Help     string   `json:"help"`               // what to give
	Kind     Kind     `json:"kind"`               // what values are accepted, and what expressions get
	Required bool     `json:"required,omitempty"` // a rule cannot be made without a value
	Default  string   `json:"default,omitempty"`  // used if no value is given; "": expressions see no such parameter then
	Choices  []string `json:"choices,omitempty"`  // all values that are accepted, for a text; none: any
}

// Key is the name that the parameter has in $params.
func (p *Parameter) Key() string { return strings.ReplaceAll(p.Name, "-", "_") }

// All returns the presets by name. An error means that a preset's file was edited by hand.
func All() ([]Preset, error) {
	paths, err := fs.Glob(files, "presets/*.json")
	if err != nil {
		return nil, fmt.Errorf("find the presets: %w", err)
	}
	all := make([]Preset, 0, len(paths))
	for _, file := range paths {
		text, err := files.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the preset: %w", err)
		}
		r, err := parse(text)
		if err == nil && path.Base(file) != r.Name+".json" {
			err = fmt.Errorf("its name is %q: name it as its file", r.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("the preset %s: %w", file, err)
		}
		all = append(all, *r)
	}
	return all, nil
}

// ByName returns the preset of that name. The error for an unknown one names those there are.
func ByName(name string) (*Preset, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(all))
	for i := range all {
		if all[i].Name == name {
			return &all[i], nil
		}
		names[i] = all[i].Name
	}
	return nil, fmt.Errorf("there is no preset %q: choose one of %s", name, strings.Join(names, ", "))
}

// Document returns the options of a rule of the preset. The values are by parameter name; one that is empty is not given. An error
// names the parameter and says what to give; it holds no value of the kind url, which may have credentials in it by mistake.
func (r *Preset) Document(values map[string]string) (rule.Document, error) {
	known := make(map[string]bool, len(r.Parameters))
	params := make(map[string]any, len(r.Parameters))
	for i := range r.Parameters {
		p := &r.Parameters[i]
		known[p.Name] = true
		value := cmp.Or(values[p.Name], p.Default)
		switch {
		case value == "" && p.Required:
			return rule.Document{}, fmt.Errorf("the preset %s needs %s: give %s", r.Name, p.Name, p.Help)
		case value == "":
			continue
		}
		read, err := p.read(value)
		if err != nil {
			return rule.Document{}, err
		}
		params[p.Key()] = read
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !known[name] {
			return rule.Document{}, fmt.Errorf("the preset %s has no parameter %s: leave it out", r.Name, name)
		}
	}
	document, err := r.options()
	if err != nil {
		return rule.Document{}, err
	}
	document.Preset = r.Name
	if len(params) > 0 {
		if document.Params, err = json.Marshal(params); err != nil {
			return rule.Document{}, fmt.Errorf("write the parameters of the preset %s: %w", r.Name, err)
		}
	}
	return document, nil
}

// options returns a copy of Options that shares nothing with them: callers put the flags of a command into it.
func (r *Preset) options() (rule.Document, error) {
	text, err := json.Marshal(&r.Options)
	if err != nil {
		return rule.Document{}, fmt.Errorf("copy the options of the preset %s: %w", r.Name, err)
	}
	return rule.ParseDocument(string(text))
}

// named is how presets and parameters are called: both stand on command lines.
var named = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// parse reads a preset's file.
func parse(text []byte) (*Preset, error) {
	var r Preset
	if err := rule.DecodeStrict(text, &r); err != nil {
		return nil, err
	}
	return &r, r.check()
}

// check finds what would surprise whoever makes a rule of the preset.
func (r *Preset) check() error {
	o := &r.Options
	switch {
	case !named.MatchString(r.Name):
		return fmt.Errorf("the name %q is not usable: write lower-case letters, digits and hyphens between them", r.Name)
	case r.Summary == "" || strings.ContainsRune(r.Summary, '\n'):
		return errors.New("the summary is not one line: write what a rule of the preset is for")
	case r.Event == "" || o.EventType != "":
		return errors.New("the event is missing, or stands in the options: write the signal's constant as the preset's event")
	case o.Preset != "" || len(o.Params) > 0:
		return errors.New("the options have preset or params in them: leave them out, they are made of the name and the parameters")
	case (r.Secret != "") != (o.Signing != nil && o.Signing.Scheme != "none"):
		return errors.New("there is a secret without a signing scheme, or the other way round: give both or none")
	case o.Auth != nil || o.ClientCert != nil || len(o.Earlier) > 0:
		return errors.New("the options have auth, client_cert or earlier in them: each rule has its own")
	}
	seen := make(map[string]bool, len(r.Parameters))
	for i := range r.Parameters {
		p := &r.Parameters[i]
		if seen[p.Name] {
			return fmt.Errorf("the parameter %s is there twice", p.Name)
		}
		seen[p.Name] = true
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}
