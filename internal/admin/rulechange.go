package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// maxSecrets is how many secrets a rule keeps, the newest included.
const maxSecrets = 5

// Rotation replaces a secret that receivers know by another, with a time in which both are good.
type Rotation struct {
	Secret string        `json:"secret"`
	Keep   time.Duration `json:"keep"` // how long the secrets before go on signing, 0 for not at all
}

// SecretChange says what is to change of a rule's options and secrets, all at once.
type SecretChange struct {
	Options OptionChange
	Rotate  *Rotation // nil for none
	// ConfirmURL binds the secrets to the URL that the rule has now. ShowURL has the view say all of it.
	ConfirmURL, ShowURL bool
}

// ChangedView says what came of a SecretChange.
type ChangedView struct {
	Changed   bool
	Confirmed *ConfirmedView // nil where nothing was to be confirmed
	Kept      []string       // sealed headers that are as they were although other options took the place of all
	Rotated   *RotatedView   // nil without a rotation
}

// ConfirmedView says what came of confirming a URL.
type ConfirmedView struct {
	Secrets bool   // the rule has some
	URL     string // to which they are bound from now on; "" where they were already
}

// RotatedView is what receivers must know of a rotation.
type RotatedView struct {
	Scheme       string
	Until        time.Time // how long the secret that was replaced signs; zero: not at all
	Earlier      int       // secrets of earlier rotations that still sign
	EarlierUntil time.Time // the last of their ends
}

// Check finds what is wrong with a change whatever rule of the table it is for.
func (c *SecretChange) Check(table rule.Table) error {
	if err := c.Options.check(table); err != nil {
		return err
	}
	switch {
	case c.Rotate == nil:
		return nil
	case c.Options.Secret != nil || c.Options.Scheme != nil:
		const reason = "`rotate-secret` does not go with `secret` or `scheme`"
		return &Problem{Field: "rotate-secret", Reason: reason, Fix: "these replace secrets at once"}
	case c.Rotate.Secret == "":
		return &Problem{Field: "rotate-secret", Reason: "write the new secret"}
	}
	return nil
}

// ChangeOptions changes options and secrets of a rule, and confirms its URL.
func (a *Admin) ChangeOptions(ctx context.Context, key rule.Key, c *SecretChange) (*ChangedView, error) {
	if err := c.Check(key.Table); err != nil {
		return nil, err
	}
	now, err := a.o.Store.Now(ctx)
	if err != nil {
		return nil, err
	}
	var view ChangedView
	view.Changed, err = a.o.Store.ChangeOption(ctx, key, func(row rule.Row, o *rule.Option) error {
		view = ChangedView{}
		if c.ConfirmURL {
			view.Confirmed = confirm(&row, o, c.ShowURL)
		}
		if c.Options.Empty() && c.Rotate == nil {
			return nil
		}
		return a.changeOption(row, o, c, now, &view)
	})
	if err != nil {
		return nil, err
	}
	return &view, nil
}

// confirm binds the secrets to the URL that the row has.
func confirm(row *rule.Row, o *rule.Option, showURL bool) *ConfirmedView {
	sum := rule.URLSum(row.URL)
	if o.Sealed == "" || o.URLSum == sum {
		return &ConfirmedView{Secrets: o.Sealed != ""}
	}
	o.URLSum = sum
	shown := row.URL
	if u, err := url.Parse(strings.TrimSpace(row.URL)); !showURL && (err != nil || u.Host == "") {
		shown = "its new URL"
	} else if !showURL {
		shown = u.Scheme + "://" + u.Host
	}
	return &ConfirmedView{true, shown}
}

func (a *Admin) changeOption(row rule.Row, o *rule.Option, c *SecretChange, now time.Time, view *ChangedView) error {
	before := *o
	if c.Options.Replace != nil { // replaces what may not be readable
		if _, err := rule.ParseDocument(o.Document); err != nil {
			if before.Document, err = earlierOf(o.Document); err != nil {
				return err
			}
		}
	}
	d, err := draftOf(&before, a.o.Keys)
	if err != nil {
		return err
	}
	made, sealed := d.document.Preset, maps.Clone(d.secrets.Headers)
	if err := d.apply(&c.Options, a.sealing()); err != nil {
		return err
	}
	if c.Options.Replace != nil {
		// These are in no file: what a view shows goes back in without losing them.
		for _, name := range slices.Sorted(maps.Keys(sealed)) {
			if d.secrets.Headers[name] == sealed[name] {
				view.Kept = append(view.Kept, name)
			}
		}
	}
	if c.Rotate != nil {
		if err := d.rotate(c.Rotate, now); err != nil {
			return err
		}
		view.Rotated = d.rotated(c.Rotate, now)
	}
	compiled, err := d.try(o.Key.Table, row, a.o.Compiler)
	if err != nil {
		return &Problem{Reason: "the change is refused: " + err.Error()}
	}
	if d.document.Preset != made || len(c.Options.Params) > 0 {
		if err := a.fitsPreset(d.document.Preset, compiled); err != nil {
			return err
		}
	}
	if !d.secrets.Empty() && !a.sealing() {
		return &Problem{Reason: "the change is refused: the rule has secrets, and they cannot be sealed", Fix: needKey}
	}
	if err := d.store(o, a.o.Keys); err != nil {
		return err
	}
	// Taking them away is asked about as well: those that came next would be bound to the new URL without a word.
	if before.Sealed != "" && o.Sealed != before.Sealed && o.URLSum != rule.URLSum(row.URL) {
		fix := fmt.Sprintf("if %s is right, add `confirm-url`; to see all of it, show the rule with `show-urls`", compiled.Target)
		return &Problem{Reason: "somebody has changed the URL of the rule since its secrets were given", Fix: fix}
	}
	return nil
}

// sealing reports whether secrets can be sealed.
func (a *Admin) sealing() bool { return a.o.Keys != nil && a.o.Keys.ID() != "" }

// earlierOf keeps of an unreadable document the former ownership periods: their events may still come.
func earlierOf(document string) (string, error) {
	var kept struct {
		Earlier []rule.OwnershipPeriod `json:"earlier"`
	}
	if err := json.Unmarshal([]byte(document), &kept); err != nil {
		return "", fmt.Errorf("read what the options say of former adoptions: %w", err)
	}
	return encode(&rule.Document{Earlier: kept.Earlier})
}

// rotate makes the new secret the first, and gives those before it an end.
func (d *draft) rotate(r *Rotation, now time.Time) error {
	if d.document.Signing == nil || len(d.secrets.Signing) == 0 {
		const reason = "the rule has no secret of its own that signs"
		return &Problem{Field: "rotate-secret", Reason: reason, Fix: "give it one with `scheme` and `secret`"}
	}
	if d.secrets.Signing[0].Secret == r.Secret {
		return &Problem{Field: "rotate-secret", Reason: "the secret is the rule's already", Fix: "make a new one"}
	}
	end := now.Add(r.Keep)
	secrets := []rule.SigningSecret{{Secret: r.Secret}}
	for _, s := range d.secrets.Signing {
		if s.Until.IsZero() {
			s.Until = end
		}
		if s.Until.After(now) && s.Secret != r.Secret {
			secrets = append(secrets, s)
		}
	}
	d.secrets.Signing = secrets[:min(len(secrets), maxSecrets)]
	return nil
}

// rotated says what receivers must know: until when the secret that was replaced signs, which is the one that they have. Those of earlier
// rotations have ends of their own, which may be later.
func (d *draft) rotated(r *Rotation, now time.Time) *RotatedView {
	v := &RotatedView{Scheme: d.document.Signing.Scheme}
	older := d.secrets.Signing[1:]
	if r.Keep > 0 {
		older, v.Until = older[1:], now.Add(r.Keep)
	}
	v.Earlier = len(older)
	for _, s := range older {
		if s.Until.After(v.EarlierUntil) {
			v.EarlierUntil = s.Until
		}
	}
	return v
}

// StateView says how a rule stands after its switch or its pause was changed, and what keeps it from being sent.
type StateView struct {
	Changed  bool
	Status   rule.Status
	Foreign  bool // the plugin sends it, because it is not adopted
	Fault    string
	Hold     string
	PausedAt time.Time
	Cure     string // what has to be done before the pause is ended
}

// stateOf returns what a row says of itself.
func stateOf(e *rule.Entry, changed bool) *StateView {
	v := &StateView{Changed: changed, Status: e.Status(), Hold: e.Hold, PausedAt: e.PausedAt(), Cure: cure(e)}
	if e.Rule == nil {
		v.Fault = e.Fault
	}
	return v
}

// entry reads one rule.
func (a *Admin) entry(ctx context.Context, key rule.Key) (*rule.Entry, error) {
	rules, err := a.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return entryOf(rules, key)
}

func entryOf(rules *rule.Snapshot, key rule.Key) (*rule.Entry, error) {
	if e := rules.Entry(key); e != nil {
		return e, nil
	}
	return nil, &store.NoRuleError{Key: key}
}

// SetEnabled switches a rule on or off.
func (a *Admin) SetEnabled(ctx context.Context, key rule.Key, on bool) (*StateView, error) {
	e, err := a.entry(ctx, key)
	if err != nil {
		return nil, err
	}
	switched, err := a.o.Store.SetEnabled(ctx, key, on)
	if err == nil && switched.Changed && on { // what it failed before does not count: nothing was tried meanwhile
		err = a.o.Store.ClearFailing(ctx, key.Lane())
	}
	if err != nil {
		return nil, err
	}
	v := stateOf(e, switched.Changed)
	v.Foreign = (a.o.Compiler.Adopted || inRequest(e)) && !switched.Adopted
	return v, nil
}

// Resume ends the pause of a webhook rule.
func (a *Admin) Resume(ctx context.Context, key rule.Key) (*StateView, error) {
	e, err := a.entry(ctx, key)
	if err != nil {
		return nil, err
	}
	resumed, err := a.o.Store.ResumeRule(ctx, key)
	if err != nil {
		return nil, err
	}
	return stateOf(e, resumed), nil
}
