package rule_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

var _ rule.Opener = (*rule.Keys)(nil)

// keyOf returns a key of 32 bytes of this value, as base64.
func keyOf(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

func keys(t *testing.T, text string) *rule.Keys {
	t.Helper()
	k, err := rule.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysAreBoundToRuleAndField(t *testing.T) {
	t.Parallel()
	k := keys(t, "k1:"+keyOf(1))
	home := rule.Key{Table: rule.Webhooks, ID: 7}
	id, sealed, err := k.Seal(home, rule.SecretsField, []byte("text"))
	if err != nil || id != "k1" || k.ID() != "k1" {
		t.Fatalf("sealed with %q, %v", id, err)
	}
	for _, c := range []struct {
		key   rule.Key
		field string
		opens bool
	}{
		{home, rule.SecretsField, true},
		{rule.Key{Table: rule.Webhooks, ID: 8}, rule.SecretsField, false},
		{rule.Key{Table: rule.Webfilters, ID: 7}, rule.SecretsField, false},
		{home, "other", false},
	} {
		text, err := k.Open(c.key, c.field, id, sealed)
		if (err == nil) != c.opens || c.opens && string(text) != "text" {
			t.Errorf("%v, %s: opened %q, %v", c.key, c.field, text, err)
		}
	}
}

func TestNoKeys(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]*rule.Keys{"not set": keys(t, ""), "zero": {}} {
		if k.ID() != "" {
			t.Errorf("%s: seals with %q", name, k.ID())
		}
		_, sealed, err := k.Seal(rule.Key{}, "f", []byte("text"))
		if err == nil || sealed != nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_SECRETS_KEY") ||
			!strings.Contains(err.Error(), "openssl rand") {
			t.Errorf("%s: Seal: %v, want the setting and how to make a key", name, err)
		}
		_, err = k.Open(rule.Key{}, "f", "k7", []byte("sealed"))
		if err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_SECRETS_KEY is not set") || !strings.Contains(err.Error(), `"k7"`) {
			t.Errorf("%s: Open: %v, want the setting and the key's name", name, err)
		}
		o := rule.Option{Sealed: "sealed", KeyID: "k7"}
		if err := k.Reseal(&o); err == nil || o.Sealed != "sealed" {
			t.Errorf("%s: Reseal: %v", name, err)
		}
	}
	wrong := keyOf(1)[:40]
	_, err := rule.ParseKeys("k1:" + wrong)
	if err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_SECRETS_KEY") || strings.Contains(err.Error(), wrong) {
		t.Errorf("a wrong key: %v", err)
	}
}

func TestKeysShowNothing(t *testing.T) {
	t.Parallel()
	k := keys(t, "k1:"+keyOf('x'))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		shown := fmt.Sprintf(verb+" "+verb, k, *k)
		for _, part := range []string{"xxx", keyOf('x')[:8], "120 120", "7878"} {
			if strings.Contains(shown, part) {
				t.Errorf("%s shows %s", verb, shown)
			}
		}
	}
}

func TestReseal(t *testing.T) {
	t.Parallel()
	old, both, first := keys(t, "old:"+keyOf(1)), keys(t, "new:"+keyOf(2)+",old:"+keyOf(1)), keys(t, "new:"+keyOf(2))
	key := rule.Key{Table: rule.Webhooks, ID: 7}
	id, sealed, err := old.Seal(key, rule.SecretsField, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	o := rule.Option{Key: key, KeyID: id, Sealed: string(sealed), Document: "{}"}
	before := o
	if err := first.Reseal(&o); err == nil || o != before {
		t.Errorf("without the old key: %v, changed: %v", err, o != before)
	}
	if err := both.Reseal(&o); err != nil {
		t.Fatal(err)
	}
	if text, err := first.Open(key, rule.SecretsField, o.KeyID, []byte(o.Sealed)); err != nil || string(text) != "text" || o.KeyID != "new" {
		t.Errorf("sealed anew with %q, opens %q, %v", o.KeyID, text, err)
	}
	again := o
	if err := both.Reseal(&again); err != nil || again != o {
		t.Errorf("sealed with the first key already: %v, changed: %v", err, again != o)
	}
	// The name says nothing of the key: another one under it must not pass for done.
	other := keys(t, "new:"+keyOf(3))
	if err := other.Reseal(&again); err == nil || !strings.Contains(err.Error(), `the key "new" does not open it`) || again != o {
		t.Errorf("with another key of the same id: %v, changed: %v", err, again != o)
	}
	broken := o
	last := len(broken.Sealed) - 1
	broken.Sealed = broken.Sealed[:last] + string([]byte{broken.Sealed[last] ^ 1})
	if err := first.Reseal(&broken); err == nil {
		t.Error("what the first key sealed and somebody has changed passes for sealed")
	}
	none := rule.Option{KeyID: "old"}
	if err := both.Reseal(&none); err != nil || none.Sealed != "" {
		t.Errorf("without secrets: %v", err)
	}
}
