package signature

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Prefixes of the secrets of Standard Webhooks, and the size of symmetric ones in bytes.
const (
	symmetricPrefix = "whsec_"
	privatePrefix   = "whsk_"
	publicPrefix    = "whpk_"

	minSymmetric = 24
	maxSymmetric = 64
)

// key is one key of Standard Webhooks: either symmetric, or public and perhaps private.
type key struct {
	version   string // of its signatures
	symmetric []byte
	private   ed25519.PrivateKey
	public    ed25519.PublicKey
}

// parseKey reads whsec_…, whsk_… or whpk_…. Its errors follow the name of the secret and do not
// reveal its value.
func parseKey(secret string) (key, error) {
	prefix, text, found := strings.Cut(secret, "_")
	prefix += "_"
	if !found || prefix != symmetricPrefix && prefix != privatePrefix && prefix != publicPrefix {
		return key{}, errors.New("does not begin with whsec_ (a shared secret), whsk_ or whpk_ (an ed25519 key)")
	}
	if strings.ContainsAny(text, "\r\n") { // which the decoder ignores
		return key{}, errors.New("has a line break in it")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return key{}, fmt.Errorf("is not standard base64, with its padding, after %s", prefix)
	}
	switch prefix {
	case symmetricPrefix:
		if len(raw) < minSymmetric || len(raw) > maxSymmetric {
			return key{}, fmt.Errorf("has %d bytes after %s once decoded; a secret has %d to %d", len(raw), prefix, minSymmetric, maxSymmetric)
		}
		return key{version: version1, symmetric: raw}, nil
	case publicPrefix:
		if len(raw) != ed25519.PublicKeySize {
			return key{}, fmt.Errorf("has %d bytes after %s once decoded; a public key has %d", len(raw), prefix, ed25519.PublicKeySize)
		}
		return key{version: version1a, public: raw}, nil
	}
	// The seed, as in the Go package of Standard Webhooks, or seed and public key, as in Svix.
	if len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		return key{}, fmt.Errorf("has %d bytes after %s once decoded; a secret key has %d, or %d with the public one behind it",
			len(raw), prefix, ed25519.SeedSize, ed25519.PrivateKeySize)
	}
	private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && !bytes.Equal(private, raw) {
		return key{}, fmt.Errorf("has a public key behind its secret one after %s, and they do not belong together", prefix)
	}
	return key{version: version1a, private: private, public: ed25519.PublicKey(private[ed25519.SeedSize:])}, nil
}

func parseKeys(secrets []string) ([]key, error) {
	keys := make([]key, len(secrets))
	for i, secret := range secrets {
		k, err := parseKey(secret)
		if err != nil {
			return nil, fmt.Errorf("signature: %s %w", position(i, secrets), err)
		}
		keys[i] = k
	}
	return keys, nil
}
