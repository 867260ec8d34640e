package admin

import (
	"context"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

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

// NeedKey says what to do where secrets cannot be sealed.
const NeedKey = "WEBHOOK_DISPATCHER_SECRETS_KEY is not set: make a key with `echo k1:$(openssl rand -base64 32)`, " +
	"and give it to whatever changes rules and to every daemon"

// RotateView is the result of a rotation of keys.
type RotateView struct {
	KeyID string // that all secrets are sealed with now, if there was no error
	Rules int    // whose secrets were sealed again
}

// RotateKeys seals the secrets of all rules with the first key, so that the other keys can be
// removed. Secrets that cannot be opened stay as they are, and are in the error; the view then
// counts the others.
func (a *Admin) RotateKeys(ctx context.Context) (*RotateView, error) {
	if a.o.Keys.ID() == "" {
		return nil, &Problem{Reason: "there is no key to seal with", Fix: NeedKey}
	}
	view := &RotateView{KeyID: a.o.Keys.ID()}
	var err error
	view.Rules, err = a.o.Store.Reseal(ctx, a.o.Keys.Reseal)
	return view, err
}
