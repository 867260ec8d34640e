package rule

import (
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/secret"
)

const keySetting = "WEBHOOK_DISPATCHER_SECRETS_KEY"

// Keys seals and opens the secrets of rules, each for its own rule and field: moved to another it does not open. The zero Keys has no key,
// and says which setting is missing. It is immutable and safe for concurrent use.
type Keys struct{ ring *secret.Ring }

// ParseKeys reads the keys of the setting, "" for none. Its errors hold nothing of a key.
func ParseKeys(text string) (*Keys, error) {
	if text == "" {
		return &Keys{}, nil
	}
	ring, err := secret.ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keySetting, err)
	}
	return &Keys{ring}, nil
}

// ID returns the name of the key that seals, "" where there is none.
func (k *Keys) ID() string {
	if k.ring == nil {
		return ""
	}
	return k.ring.ID()
}

// Seal seals a secret of a rule with the first key, and returns the key's name with it.
func (k *Keys) Seal(key Key, field string, text []byte) (keyID string, sealed []byte, err error) {
	if k.ring == nil {
		return "", nil, errors.New("secrets are stored sealed, and there is no key: set " + keySetting +
			" here and for the daemon; a new key is printed by: echo k1:$(openssl rand -base64 32)")
	}
	keyID, sealed = k.ring.Seal(place(key, field), text)
	return keyID, sealed, nil
}

// Open implements Opener.
func (k *Keys) Open(key Key, field, keyID string, sealed []byte) ([]byte, error) {
	if k.ring == nil {
		return nil, fmt.Errorf("%s is not set, and they are sealed with the key %q", keySetting, keyID)
	}
	return k.ring.Open(place(key, field), keyID, sealed)
}

// Reseal seals the secrets of an option with the first key, unless they are already, or there are
// none. Secrets sealed under the first key's name are opened as well: the name may have been another
// key's before, and an operator who sees no error removes that key.
func (k *Keys) Reseal(o *Option) error {
	if o.Sealed == "" {
		return nil
	}
	text, err := k.Open(o.Key, SecretsField, o.KeyID, []byte(o.Sealed))
	if err != nil || o.KeyID == k.ID() {
		return err
	}
	keyID, sealed, err := k.Seal(o.Key, SecretsField, text)
	if err == nil {
		o.KeyID, o.Sealed = keyID, string(sealed)
	}
	return err
}

func place(key Key, field string) secret.Place {
	return secret.Place{Table: "webhook_dispatcher_rule_option", Kind: uint8(key.Table), ID: int64(key.ID), Field: field}
}
