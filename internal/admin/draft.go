package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/preset"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// draft is what a rule's options are before they are stored.
type draft struct {
	document rule.Document
	secrets  rule.Secrets
	stored   string // the secrets as they were read, as JSON
}

// draftOf reads the options of a rule.
func draftOf(o *rule.Option, opener rule.Opener) (d draft, err error) {
	if d.document, err = rule.ParseDocument(o.Document); err != nil {
		return d, fmt.Errorf("%w: give all options anew", err) // it is the stored text: no field of the caller is wrong
	}
	if d.secrets, err = o.OpenSecrets(opener); err != nil {
		return d, err
	}
	_, d.stored, err = d.encode()
	return d, err
}

// replace sets all options at once. Secrets stay where the new options have the same use for them.
func (d *draft) replace(document *rule.Document, sealing bool) error {
	old := d.document
	d.document = *document
	d.document.Earlier = old.Earlier // what the program itself has noted
	d.document.Headers = nil
	for _, name := range slices.Sorted(maps.Keys(document.Headers)) {
		if err := d.setHeader(name, document.Headers[name], sealing); err != nil {
			return err
		}
	}
	if s := document.Signing; s == nil || old.Signing == nil || s.Scheme != old.Signing.Scheme {
		d.secrets.Signing = nil
	}
	if a := document.Auth; a == nil || old.Auth == nil || a.Type != old.Auth.Type {
		d.secrets.Auth = ""
	}
	if document.ClientCert != nil && old.ClientCert != nil {
		d.document.ClientCert = old.ClientCert // the certificate itself is not among the options
	}
	return nil
}

// encode returns the options as they are stored, "" for none.
func (d *draft) encode() (document, secrets string, err error) {
	if document, err = encode(&d.document); err != nil || d.secrets.Empty() {
		return document, "", err
	}
	secrets, err = encode(&d.secrets)
	return document, secrets, err
}

// encode writes JSON as people would, without escapes for HTML, and "" for an empty object.
func encode(v any) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", err
	}
	if written := strings.TrimSpace(b.String()); written != "{}" {
		return written, nil
	}
	return "", nil
}

// try compiles the draft as the daemon will compile what comes of it. What would be faulty or held is an error.
func (d *draft) try(table rule.Table, row rule.Row, compiler *rule.Compiler) (compiled *rule.Rule, err error) {
	var hold string
	if table == rule.Webhooks {
		compiled, hold, err = compiler.Compile(row, d.document, d.secrets)
	} else {
		var f *rule.Webfilter
		if f, hold, err = compiler.CompileWebfilter(rule.WebfilterRow{Row: row}, d.document, d.secrets); f != nil {
			compiled = f.Rule
		}
	}
	if err == nil && hold != "" {
		err = errors.New(hold)
	}
	return compiled, err
}

// store puts the draft into an option. What is sealed already and has not changed stays as it is.
func (d *draft) store(o *rule.Option, keys Keys) error {
	document, secrets, err := d.encode()
	if err != nil {
		return err
	}
	o.Document = document
	switch secrets {
	case d.stored:
		return nil
	case "":
		o.Sealed, o.KeyID = "", ""
		return nil
	}
	keyID, sealed, err := keys.Seal(o.Key, rule.SecretsField, []byte(secrets))
	if err != nil {
		return err
	}
	o.Sealed, o.KeyID = string(sealed), keyID
	return nil
}

// Keys seal the secrets of rules.
type Keys interface {
	// ID returns the name of the key that seals, empty where there is none.
	ID() string
	// Seal seals a field of a rule with that key, and returns the key's name with it.
	Seal(key rule.Key, field string, text []byte) (keyID string, sealed []byte, err error)
	rule.Opener
	// Reseal seals the secrets of an option with that key, unless they already are.
	Reseal(o *rule.Option) error
}

// needKey says what to do where secrets cannot be sealed.
const needKey = "WEBHOOK_DISPATCHER_SECRETS_KEY is not set: make a key with `echo k1:$(openssl rand -base64 32)`, " +
	"and give it to whatever changes rules and to every daemon"

// RotateView is the result of a rotation of keys.
type RotateView struct {
	KeyID string // that all secrets are sealed with now, if there was no error
	Rules int    // whose secrets were sealed again
}

// RotateKeys seals the secrets of all rules with the first key, so that other keys can be removed.
// Secrets that cannot be opened stay, and are in the error; the view then counts the others.
func (a *Admin) RotateKeys(ctx context.Context) (*RotateView, error) {
	if a.o.Keys.ID() == "" {
		return nil, &Problem{Reason: "there is no key to seal with", Fix: needKey}
	}
	changed, err := a.o.Store.Reseal(ctx, a.o.Keys.Reseal)
	return &RotateView{KeyID: a.o.Keys.ID(), Rules: changed}, err
}

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
