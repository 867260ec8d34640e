package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// rotateFlags replace a secret that receivers know by another, with a time in which both are good.
type rotateFlags struct {
	RotateSecret text `placeholder:"SECRET" help:"New secret that signs from now on; the ones before sign beside it for a while."`
	KeepPrevious text `placeholder:"D" help:"With --rotate-secret: for how long, 24h by default; 0 for not at all."`

	secret string
	keep   time.Duration
}

// maxSecrets is how many secrets a rule keeps, the newest included.
const maxSecrets = 5

func (f *rotateFlags) check(in *inputs, signing *signingFlags) (err error) {
	if !f.RotateSecret.given {
		if f.KeepPrevious.given {
			return usagef("--keep-previous comes with --rotate-secret")
		}
		return nil
	}
	if signing.Secret.given || signing.Scheme.given {
		return usagef("--rotate-secret does not go with --secret or --scheme: these replace secrets at once")
	}
	if f.secret, err = in.secret("rotate-secret", f.RotateSecret.value); err != nil {
		return err
	}
	if f.secret == "" {
		return usagef("--rotate-secret: write the new secret")
	}
	f.keep = 24 * time.Hour
	if f.KeepPrevious.given {
		f.keep, err = config.ParseDuration(f.KeepPrevious.value)
		if f.KeepPrevious.value == "0" {
			f.keep, err = 0, nil
		}
		if err != nil || f.keep < 0 {
			return usagef("--keep-previous: %q is no time to keep secrets for: write one such as 24h or 7d, or 0", f.KeepPrevious.value)
		}
	}
	return nil
}

// rotate makes the new secret the first, and gives those before it an end.
func (f *rotateFlags) rotate(d *draft, now time.Time) error {
	if d.document.Signing == nil || len(d.secrets.Signing) == 0 {
		return usagef("--rotate-secret: the rule has no secret of its own that signs: give it one with --scheme and --secret")
	}
	if d.secrets.Signing[0].Secret == f.secret {
		return usagef("--rotate-secret: the secret is the rule's already: make a new one")
	}
	end := now.Add(f.keep)
	secrets := []rule.SigningSecret{{Secret: f.secret}}
	for _, s := range d.secrets.Signing {
		if s.Until.IsZero() {
			s.Until = end
		}
		if s.Until.After(now) && s.Secret != f.secret {
			secrets = append(secrets, s)
		}
	}
	d.secrets.Signing = secrets[:min(len(secrets), maxSecrets)]
	return nil
}

// setOptions changes options and secrets, and confirms the URL, all at once.
func (c *setCommand) setOptions(ctx context.Context, s *session, st *store.Store, e *rule.Entry) error {
	compiler, err := c.compiler()
	if err != nil {
		return err
	}
	keys, err := rule.ParseKeys(c.SecretsKey.Reveal())
	if err != nil {
		return err
	}
	now, err := st.Now(ctx)
	if err != nil {
		return err
	}
	var said []string
	changed, err := st.ChangeOption(ctx, e.Key, func(row rule.Row, o *rule.Option) error {
		said = nil
		if c.ConfirmURL {
			said = append(said, c.confirm(&row, o))
		}
		if len(c.steps) == 0 && !c.RotateSecret.given {
			return nil
		}
		more, err := c.changeOption(row, o, now, compiler, keys)
		said = append(said, more...)
		return err
	})
	if err != nil {
		return err
	}
	if len(c.steps) > 0 || c.RotateSecret.given {
		state := "changed"
		if !changed {
			state = "as it was: it has these options already"
		}
		said = append([]string{"is " + state}, said...)
	}
	for _, line := range said {
		if _, err := fmt.Fprintf(s.Stdout, "%s %s\n", e.Key.Label(), line); err != nil {
			return err
		}
	}
	return nil
}

// confirm binds the secrets to the URL that the row has, and says what came of it.
func (c *setCommand) confirm(row *rule.Row, o *rule.Option) string {
	sum := rule.URLSum(row.URL)
	switch {
	case o.Sealed == "":
		return "has no secrets: there is nothing to confirm"
	case o.URLSum == sum:
		return "has the URL that its secrets are for: there is nothing to confirm"
	}
	o.URLSum = sum
	shown := row.URL
	if !c.ShowURLs {
		shown = schemeAndHost(row.URL)
	}
	return "sends its secrets to " + printable(shown) + " from now on"
}

func (c *setCommand) changeOption(
	row rule.Row, o *rule.Option, now time.Time, compiler *rule.Compiler, keys *rule.Keys,
) (said []string, err error) {
	before := *o
	if c.Options.given { // replaces what may not be readable
		if _, err := rule.ParseDocument(o.Document); err != nil {
			if before.Document, err = windowsOf(o.Document); err != nil {
				return nil, err
			}
		}
	}
	d, err := draftOf(&before, keys)
	if err != nil {
		return nil, err
	}
	recipe, sealed := d.document.Recipe, maps.Clone(d.secrets.Headers)
	if err := d.apply(c.steps); err != nil {
		return nil, err
	}
	if c.Options.given {
		said = append(said, d.keeps(sealed)...)
	}
	if c.RotateSecret.given {
		if err := c.rotate(&d, now); err != nil {
			return nil, err
		}
		said = append(said, c.rotated(&d, now))
	}
	compiled, err := d.try(c.table(), row, compiler)
	if err != nil {
		return nil, usagef("the change is refused: %w", err)
	}
	if d.document.Recipe != recipe || len(c.parameters()) > 0 {
		if err := fits(d.document.Recipe, compiled, compiler.Catalogue); err != nil {
			return nil, err
		}
	}
	if !d.secrets.Empty() && !c.sealing() {
		return nil, usagef("the change is refused: the rule has secrets, and they cannot be sealed: %w", errNoKey)
	}
	if err := d.store(o, keys); err != nil {
		return nil, err
	}
	// Taking them away is asked about as well: those that came next would be bound to the new URL without a word.
	if before.Sealed != "" && o.Sealed != before.Sealed && o.URLSum != rule.URLSum(row.URL) {
		return nil, usagef("somebody has changed the URL of the rule since its secrets were given: if %s is right, add --confirm-url; "+
			"%s shows all of it", compiled.Target, command("show", c.key(row.ID), " --show-urls"))
	}
	return said, nil
}

// keeps says which sealed headers are as they were before other options took the place of all: these are in no file, and what rules show
// prints goes back in without losing them.
func (d *draft) keeps(before map[string]string) []string {
	var kept []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if d.secrets.Headers[name] == before[name] {
			kept = append(kept, name)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	headers := "header"
	if len(kept) > 1 {
		headers = "headers"
	}
	return []string{fmt.Sprintf("keeps its sealed %s %s: take one away with --header '%s:'", headers, strings.Join(kept, ", "), kept[0])}
}

// windowsOf returns a document that has nothing but what an unreadable one says of former adoptions: events of these times may still come.
func windowsOf(document string) (string, error) {
	var kept struct {
		Earlier []rule.OwnershipPeriod `json:"earlier"`
	}
	if err := json.Unmarshal([]byte(document), &kept); err != nil {
		return "", fmt.Errorf("read what the options say of former adoptions: %w", err)
	}
	return encode(&rule.Document{Earlier: kept.Earlier})
}

// rotated says what receivers must know of it: until when the secret that was replaced signs, which is the one that they have. Those of
// earlier rotations have ends of their own, which may be later.
func (f *rotateFlags) rotated(d *draft, now time.Time) string {
	if d.document.Signing.Scheme != "standard" {
		return fmt.Sprintf("is signed with the new secret alone from now on: %s has room for one signature, so the receiver must know the new "+
			"secret already, and keep the old one until what is under way has arrived", d.document.Signing.Scheme)
	}
	older := d.secrets.Signing[1:]
	said := "is signed with the new secret, and no longer with the one before: the receiver must know the new one already"
	switch {
	case f.keep > 0:
		older = older[1:]
		said = fmt.Sprintf("is signed with the new secret, and with the one before until %s: give the receiver the new one by then",
			moment(now.Add(f.keep)))
	case len(older) == 0:
		said = "is signed with the new secret alone from now on: the receiver must know it already"
	}
	if len(older) == 0 {
		return said
	}
	end := slices.MaxFunc(older, func(a, b rule.SigningSecret) int { return a.Until.Compare(b.Until) }).Until
	return fmt.Sprintf("%s; besides with %s until %s at the latest", said,
		counted(len(older), "secret of an earlier rotation", "secrets of earlier rotations"), moment(end))
}

// schemeAndHost returns what may be shown of a URL.
func schemeAndHost(raw string) string {
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Host == "" {
		return "its new URL"
	}
	return u.Scheme + "://" + u.Host
}
