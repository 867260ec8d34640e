package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/secret"
)

// keyOf returns a key of 32 bytes of this value, as base64.
func keyOf(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

func ring(t testing.TB, text string) *secret.Ring {
	t.Helper()
	r, err := secret.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var home = secret.Place{Table: "table", Kind: 1, ID: 7, Field: "secrets"}

func TestSealAndOpen(t *testing.T) {
	r := ring(t, "k1:"+keyOf(1))
	for _, text := range []string{"", "s", strings.Repeat("long", 10_000), "\x00\xff"} {
		id, sealed := r.Seal(home, []byte(text))
		if id != "k1" || id != r.ID() {
			t.Errorf("sealed with %q, want k1", id)
		}
		if len(text) > 8 && bytes.Contains(sealed, []byte(text)) { // random bytes hold a shorter one now and then
			t.Error("the text stands in what is sealed")
		}
		if want := 1 + 12 + len(text) + 16; len(sealed) != want {
			t.Errorf("sealed takes %d bytes, want version, nonce, text and tag, %d", len(sealed), want)
		}
		got, err := r.Open(home, id, sealed)
		if err != nil || string(got) != text {
			t.Errorf("opened %d bytes, %v; want what was sealed", len(got), err)
		}
	}
}

// sealedElsewhere was computed with another implementation, AESGCM of Python's cryptography: what
// is in databases must open for good.
const sealedElsewhere = "01000102030405060708090a0bc084f45354962443dc1e88af4507eade16c016ae606be4de9bdc2643cdb41960"

func TestOpensWhatWasSealedBefore(t *testing.T) {
	sealed, err := hex.DecodeString(sealedElsewhere)
	if err != nil {
		t.Fatal(err)
	}
	place := secret.Place{Table: "webhook_dispatcher_rule_option", Kind: 1, ID: 7, Field: "secrets"}
	text, err := ring(t, "k1:"+keyOf(1)).Open(place, "k1", sealed)
	if err != nil || string(text) != `{"auth":"token"}` {
		t.Errorf("opened %q, %v", text, err)
	}
}

// TestBoundToItsPlace: whoever can write the table must not make one rule's secret another's.
func TestBoundToItsPlace(t *testing.T) {
	r := ring(t, "k1:"+keyOf(1))
	id, sealed := r.Seal(home, []byte("text"))
	for name, other := range map[string]secret.Place{
		"table":                    {Table: "tables", Kind: 1, ID: 7, Field: "secrets"},
		"kind":                     {Table: "table", Kind: 2, ID: 7, Field: "secrets"},
		"rule":                     {Table: "table", Kind: 1, ID: 8, Field: "secrets"},
		"rule, high bits":          {Table: "table", Kind: 1, ID: 7 + 1<<32, Field: "secrets"},
		"rule, negative":           {Table: "table", Kind: 1, ID: -7, Field: "secrets"},
		"field":                    {Table: "table", Kind: 1, ID: 7, Field: "secret"},
		"table and field, shifted": {Table: "tables", Kind: 1, ID: 7, Field: "ecrets"},
		"nothing":                  {},
	} {
		if text, err := r.Open(other, id, sealed); err == nil || text != nil {
			t.Errorf("another %s: it opens", name)
		}
	}
	if _, err := r.Open(home, id, sealed); err != nil {
		t.Errorf("its own place: %v", err)
	}
}

func TestNonces(t *testing.T) {
	r := ring(t, "k1:"+keyOf(1))
	seen := make(map[string]bool)
	for range 1000 {
		_, sealed := r.Seal(home, []byte("text"))
		if seen[string(sealed[1:13])] {
			t.Fatal("a nonce came twice")
		}
		seen[string(sealed[1:13])] = true
	}
}

func TestKeyOrderAndRotation(t *testing.T) {
	before := ring(t, "old:"+keyOf(1))
	during := ring(t, " new:"+keyOf(2)+" , old:"+keyOf(1)+"\n")
	after := ring(t, "new:"+keyOf(2))
	id, sealed := before.Seal(home, []byte("text"))
	if text, err := during.Open(home, id, sealed); err != nil || string(text) != "text" {
		t.Errorf("a second key opens %q, %v", text, err)
	}
	if _, err := after.Open(home, id, sealed); err == nil || !strings.Contains(err.Error(), `"old" is not configured`) {
		t.Errorf("without its key: %v, want it named", err)
	}
	id, sealed = during.Seal(home, []byte("text"))
	if id != "new" || during.ID() != "new" {
		t.Errorf("sealed with %q, want the first key, new", id)
	}
	if text, err := after.Open(home, id, sealed); err != nil || string(text) != "text" {
		t.Errorf("the first key alone opens %q, %v", text, err)
	}
	// The same name for another key, and the same key under another name.
	if _, err := ring(t, "new:"+keyOf(3)).Open(home, id, sealed); err == nil {
		t.Error("another key of the same name opens it")
	}
	if _, err := ring(t, "other:"+keyOf(2)).Open(home, id, sealed); err == nil {
		t.Error("a key of another name opens it")
	}
}

func TestDamaged(t *testing.T) {
	r := ring(t, "k1:"+keyOf(1))
	id, sealed := r.Seal(home, []byte("text"))
	for i := range sealed {
		for bit := range 8 {
			damaged := bytes.Clone(sealed)
			damaged[i] ^= 1 << bit
			if text, err := r.Open(home, id, damaged); err == nil || text != nil {
				t.Errorf("byte %d, bit %d changed: it opens", i, bit)
			}
		}
		if _, err := r.Open(home, id, sealed[:i]); err == nil {
			t.Errorf("cut to %d bytes: it opens", i)
		}
	}
	if _, err := r.Open(home, id, append(bytes.Clone(sealed), 0)); err == nil {
		t.Error("with a byte more: it opens")
	}
}

func TestParseKeysRefuses(t *testing.T) {
	key := keyOf(0xfb) // with + and / in it
	for name, c := range map[string]struct{ text, want string }{
		"nothing":       {"", "key 1 has no id"},
		"no id":         {key, "key 1 has no id"},
		"empty id":      {":" + key, "key 1 has no id"},
		"comma at end":  {"k:" + key + ",", "key 2 has no id"},
		"long id":       {strings.Repeat("i", 33) + ":" + key, "id of key 1"},
		"odd id":        {"kä:" + key, "id of key 1"},
		"id with space": {"k 1:" + key, "id of key 1"},
		"turned round":  {key + ":k1", "id of key 1"},
		"twice":         {"k:" + key + ",k:" + keyOf(2), `duplicate key id "k"`},
		"short":         {"k:" + key[:40], `"k" is not standard base64 of 32 bytes`},
		"16 bytes":      {"k:" + base64.StdEncoding.EncodeToString(make([]byte, 16)), "of 32 bytes"},
		"33 bytes":      {"k:" + base64.StdEncoding.EncodeToString(make([]byte, 33)), "of 32 bytes"},
		"url base64":    {"k:" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32)), "of 32 bytes"},
		"hexadecimal":   {"k:" + strings.Repeat("ab", 32), "of 32 bytes"},
		"loose bits":    {"k:" + key[:42] + "9=", "of 32 bytes"},
		"second wrong":  {"k:" + keyOf(2) + ",l:" + key[1:], `"l"`},
	} {
		r, err := secret.ParseKeys(c.text)
		if err == nil || r != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), key[:20]) {
			t.Errorf("%s: the error holds a key", name)
		}
	}
	ring(t, "A.b-c_9:"+key+",B:"+keyOf(2)+",b:"+keyOf(3)) // ids are told apart by case
}

// TestShowsNoKey prints a ring in all ways that come to mind, and looks for the key in each
// spelling.
func TestShowsNoKey(t *testing.T) {
	raw := []byte("0123456789abcdefghijklmnopqrstuv")
	r := ring(t, "k1:"+base64.StdEncoding.EncodeToString(raw))
	var shown strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&shown, verb+" ", r)
		fmt.Fprintf(&shown, verb+" ", *r)
		fmt.Fprintf(&shown, verb+" ", struct{ R *secret.Ring }{r})
		fmt.Fprintf(&shown, verb+"\n", struct{ R secret.Ring }{*r})
	}
	log := slog.New(slog.NewJSONHandler(&shown, nil))
	log.Info("ring", "pointer", r, "value", *r)
	id, sealed := r.Seal(home, []byte("the text"))
	sealed[20] ^= 1
	_, err := r.Open(home, id, sealed)
	fmt.Fprintf(&shown, "%v %+v %#v", err, err, err)
	for _, key := range []string{
		string(raw), base64.StdEncoding.EncodeToString(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		strings.Trim(fmt.Sprintf("%d", raw), "[]"), "the text",
	} {
		if strings.Contains(shown.String(), key) {
			t.Errorf("shows %q", key)
		}
	}
	if got := r.String(); got != "secret.Ring of 1 keys" {
		t.Errorf("String: %q", got)
	}
}

func FuzzOpen(f *testing.F) {
	r := ring(f, "k1:"+keyOf(1)+",k2:"+keyOf(2))
	id, sealed := r.Seal(home, []byte("text"))
	f.Add(id, sealed)
	f.Add("k2", sealed)
	f.Add("", []byte{1})
	f.Fuzz(func(t *testing.T, id string, sealed []byte) {
		text, err := r.Open(home, id, sealed)
		if err == nil && string(text) != "text" {
			t.Error("something opens that was never sealed")
		}
		if err != nil && text != nil {
			t.Error("a text beside an error")
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add("k1:" + keyOf(1))
	f.Add("k1:" + keyOf(1) + ", k2:" + keyOf(2))
	f.Add(":,")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := secret.ParseKeys(text)
		if err != nil {
			if r != nil {
				t.Error("a ring beside an error")
			}
			return
		}
		id, sealed := r.Seal(home, []byte("text"))
		if len(id) == 0 || len(id) > secret.MaxKeyID {
			t.Errorf("a key named %q", id)
		}
		if got, err := r.Open(home, id, sealed); err != nil || string(got) != "text" {
			t.Errorf("opens %q, %v", got, err)
		}
	})
}
