package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/preset"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// PresetView is a preset: options for a known receiver.
type PresetView struct {
	Name       string             `json:"name"`
	Summary    string             `json:"summary"`
	Event      string             `json:"event"`
	Secret     string             `json:"secret"` // which secret a rule needs, "" for none
	Parameters []preset.Parameter `json:"parameters"`
	Options    rule.Document      `json:"options"`
}

// Presets returns all presets by name.
func Presets() ([]PresetView, error) {
	presets, err := preset.All()
	if err != nil {
		return nil, err
	}
	return views(presets, func(p *preset.Preset) PresetView {
		return PresetView{p.Name, p.Summary, p.Event, p.Secret, append([]preset.Parameter{}, p.Parameters...), p.Options}
	}), nil
}

// presetNamed returns a preset. One that does not exist is a *Problem.
func presetNamed(name string) (*preset.Preset, error) {
	p, err := preset.ByName(name)
	if err != nil {
		return nil, &Problem{Field: "preset", Reason: err.Error()}
	}
	return p, nil
}

// preset lays a preset over the rule's options, or changes parameters of the one that the rule has.
func (d *draft) preset(c *OptionChange) error {
	switch {
	case c.Preset != nil:
		return d.applyPreset(*c.Preset, c.Params)
	case len(c.Params) == 0:
		return nil
	case d.document.Preset == "":
		reason := fmt.Sprintf("%s is a parameter of a preset", slices.Sorted(maps.Keys(c.Params))[0])
		return &Problem{Field: "param", Reason: reason, Fix: "add `preset` NAME", See: SeePresets}
	}
	document, err := d.presetWith(d.document.Preset, c.Params)
	if err != nil {
		return err
	}
	d.document.Params = document.Params
	return nil
}

// presetWith returns what a preset makes of the parameters that the rule has and of those given.
func (d *draft) presetWith(name string, given map[string]string) (document rule.Document, err error) {
	p, err := presetNamed(name)
	if err != nil {
		return document, err
	}
	var stored map[string]any
	if d.document.Preset == name && len(d.document.Params) > 0 {
		if err := json.Unmarshal(d.document.Params, &stored); err != nil {
			return document, fmt.Errorf("read the parameters of the rule: %w", err)
		}
	}
	values := make(map[string]string)
	for i := range p.Parameters {
		parameter := &p.Parameters[i]
		switch value := stored[parameter.Key()].(type) {
		case string:
			values[parameter.Name] = value
		case []any:
			words := views(value, func(word *any) string { return fmt.Sprint(*word) })
			values[parameter.Name] = strings.Join(words, ",")
		}
	}
	maps.Copy(values, given)
	if document, err = p.Document(values); err != nil {
		return document, &Problem{Field: "param", Reason: err.Error()}
	}
	return document, nil
}

// applyPreset lays a preset over the rule's options.
func (d *draft) applyPreset(name string, given map[string]string) error {
	document, err := d.presetWith(name, given)
	if err != nil {
		return err
	}
	for header := range document.Headers { // the rule may have it under another spelling: it would be there twice
		d.dropHeader(header)
	}
	laid, err := encode(&document)
	if err != nil {
		return err
	}
	if s := document.Signing; s != nil && (d.document.Signing == nil || d.document.Signing.Scheme != s.Scheme) {
		d.secrets.Signing = nil
	}
	// Fields that the preset does not set stay as they are; pointers are not shared with it.
	d.document.Params, d.document.Signing = nil, nil
	return json.Unmarshal([]byte(laid), &d.document)
}

// fitsPreset refuses a preset for a rule of another event.
func (a *Admin) fitsPreset(name string, r *rule.Rule) error {
	if name == "" {
		return nil
	}
	p, err := presetNamed(name)
	if err != nil {
		return err
	}
	if signal, ok := a.o.Catalogue.ByConstant(p.Event); ok && signal.Type != r.EventType {
		return &Problem{
			Reason: fmt.Sprintf("the preset %s is for %s, and the rule wants %s", name, p.Event, r.EventType),
			Fix:    "add a rule of its own for the preset",
		}
	}
	return nil
}
