// Package secret encrypts secrets for storage in a table: reading the database reveals nothing, and
// a secret that is copied to another row does not open there.
//
// It uses AES-256-GCM with a fresh nonce for each secret and authenticates the secret's Place.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxKeyID is the maximum length of a key's id in bytes, the size of its column.
const MaxKeyID = 32

const (
	keySize = 32 // of AES-256, in bytes
	// version is the first byte, authenticated; the nonce and the output of AES-256-GCM follow.
	version = 1
)

// Place is where a secret belongs. It is authenticated, not stored.
type Place struct {
	Table string
	Kind  uint8
	ID    int64
	Field string
}

// data differs for any two places: texts follow their length, numbers have a fixed size.
func (p Place) data() []byte {
	data := []byte{version}
	for _, part := range [...]string{p.Table, p.Field} {
		data = binary.BigEndian.AppendUint32(data, uint32(len(part)))
		data = append(data, part...)
	}
	data = append(data, p.Kind)
	return binary.BigEndian.AppendUint64(data, uint64(p.ID))
}

// Ring is a list of keys: the first seals, all open. It is immutable and safe for concurrent use.
type Ring struct{ keys []key }

type key struct {
	id   string
	aead cipher.AEAD
}

// ParseKeys reads keys as ID:BASE64, separated by commas; the base64 is standard, of 32 bytes. Its
// errors contain ids but no part of a key.
func ParseKeys(text string) (*Ring, error) {
	var r Ring
	for i, part := range strings.Split(text, ",") {
		id, encoded, found := strings.Cut(strings.TrimSpace(part), ":")
		if !found || id == "" {
			return nil, fmt.Errorf("key %d has no id: write ID:KEY, the key as base64 of 32 bytes", i+1)
		}
		if !validID(id) {
			return nil, fmt.Errorf("the id of key %d must be 1 to %d letters, digits, dots, hyphens or underscores", i+1, MaxKeyID)
		}
		if slices.ContainsFunc(r.keys, func(k key) bool { return k.id == id }) {
			return nil, fmt.Errorf("duplicate key id %q", id)
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("the key %q is not standard base64 of %d bytes", id, keySize)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, fmt.Errorf("the key %q: %w", id, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("the key %q: %w", id, err)
		}
		r.keys = append(r.keys, key{id, aead})
	}
	return &r, nil
}

func validID(id string) bool {
	if len(id) > MaxKeyID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// ID returns the id of the key that Seal uses.
func (r *Ring) ID() string { return r.keys[0].id }

// Seal encrypts a secret for a place with the first key, and also returns that key's id.
func (r *Ring) Seal(place Place, text []byte) (keyID string, sealed []byte) {
	k := r.keys[0]
	sealed = make([]byte, 1+k.aead.NonceSize(), 1+k.aead.NonceSize()+len(text)+k.aead.Overhead())
	sealed[0] = version
	nonce := sealed[1:]
	_, _ = rand.Read(nonce) // never fails, as documented
	return k.id, k.aead.Seal(sealed, nonce, text, place.data())
}

// Open decrypts what Seal returned for the same place. Its errors contain nothing of the secret.
func (r *Ring) Open(place Place, keyID string, sealed []byte) ([]byte, error) {
	for _, k := range r.keys {
		if k.id != keyID {
			continue
		}
		size := k.aead.NonceSize()
		if len(sealed) < 1+size+k.aead.Overhead() || sealed[0] != version {
			return nil, errors.New("the sealed secret is damaged, or of a later version")
		}
		text, err := k.aead.Open(nil, sealed[1:1+size], sealed[1+size:], place.data())
		if err != nil {
			return nil, fmt.Errorf("the key %q does not open it: it was changed, copied from another rule, or sealed with a different key", keyID)
		}
		return text, nil
	}
	return nil, fmt.Errorf("the key %q is not configured: add it", keyID)
}

// String keeps keys out of logs.
func (r Ring) String() string { return fmt.Sprintf("secret.Ring of %d keys", len(r.keys)) }

// GoString is String.
func (r Ring) GoString() string { return r.String() }
