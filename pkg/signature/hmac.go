package signature

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is not broken, and some receivers require it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// Hash is the hash function of an HMAC.
type Hash string

// The hash functions. An empty Hash means SHA256.
const (
	SHA256 Hash = "sha256"
	SHA512 Hash = "sha512"
	SHA1   Hash = "sha1"
)

// Encoding is how an HMAC's digest is written.
type Encoding string

// The encodings. An empty Encoding means Hex.
const (
	Hex    Encoding = "hex"    // lower case; upper case is verified as well
	Base64 Encoding = "base64" // the standard alphabet, with padding
)

// HMAC is a scheme that signs only the body, with the UTF-8 bytes of a shared secret as the key. It
// does not sign time and webhook-id, so a recorded request stays valid for ever: prefer Standard.
type HMAC struct {
	// Header is the name of the header that holds the signature, in any case.
	Header string
	// Prefix comes before the digest, such as "sha256=". It is case sensitive.
	Prefix string
	// Encoding of the digest.
	Encoding Encoding
	// Hash function.
	Hash Hash
}

// SigHMACSHA256 is the scheme of Richie's course-run synchronisation: Authorization:
// SIG-HMAC-SHA256 <hex>.
func SigHMACSHA256() HMAC { return HMAC{Header: "Authorization", Prefix: "SIG-HMAC-SHA256 "} }

var hashes = map[Hash]func() hash.Hash{"": sha256.New, SHA256: sha256.New, SHA512: sha512.New, SHA1: sha1.New}

func (h HMAC) check(secrets []string) (newHash func() hash.Hash, err error) {
	newHash, ok := hashes[h.Hash]
	if !ok {
		return nil, fmt.Errorf("signature: the hash %q is none of sha256, sha512, sha1", string(h.Hash))
	}
	if h.Encoding != Hex && h.Encoding != Base64 && h.Encoding != "" {
		return nil, fmt.Errorf("signature: the encoding %q is neither hex nor base64", string(h.Encoding))
	}
	if !token(h.Header) {
		return nil, fmt.Errorf("signature: %q cannot be the name of a header", h.Header)
	}
	for i := range len(h.Prefix) {
		if c := h.Prefix[i]; c < ' ' || c >= 0x7f || i == 0 && c == ' ' {
			return nil, errors.New("signature: the prefix cannot begin a header's value: write visible ASCII")
		}
	}
	for i, secret := range secrets {
		if secret == "" {
			return nil, fmt.Errorf("signature: %s is empty", position(i, secrets))
		}
	}
	return newHash, nil
}

// token reports whether s is a token of RFC 9110, as header names are.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

type hmacSigner struct {
	label
	scheme HMAC
	header string    // in canonical form
	work   sync.Pool // of *work
}

func (h HMAC) newSigner(secrets []string) (Signer, error) {
	newHash, err := h.check(secrets)
	if err != nil {
		return nil, err
	}
	secret := []byte(secrets[0])
	name := textproto.CanonicalMIMEHeaderKey(h.Header)
	s := &hmacSigner{label: label("signature.Signer for " + name), scheme: h, header: name}
	s.work.New = func() any { return &work{macs: []hash.Hash{hmac.New(newHash, secret)}} }
	return s, nil
}

// Sign implements Signer. It ignores id and timestamp.
func (s *hmacSigner) Sign(header map[string][]string, _ string, _ time.Time, body []byte) error {
	if header == nil {
		return errors.New("signature: the header is nil")
	}
	w := s.work.Get().(*work)
	defer s.work.Put(w)
	w.sum = sum(w.macs[0], w.sum, body)
	w.out = append(w.out[:0], s.scheme.Prefix...)
	if s.scheme.Encoding == Base64 {
		w.out = base64.StdEncoding.AppendEncode(w.out, w.sum)
	} else {
		w.out = hex.AppendEncode(w.out, w.sum)
	}
	header[s.header] = []string{string(w.out)}
	return nil
}

type hmacVerifier struct {
	label
	scheme  HMAC
	newHash func() hash.Hash
	secrets [][]byte
}

func (h HMAC) newVerifier(secrets []string) (Verifier, error) {
	newHash, err := h.check(secrets)
	if err != nil {
		return nil, err
	}
	name := label(fmt.Sprintf("signature.Verifier for %s of %d secrets", h.Header, len(secrets)))
	v := &hmacVerifier{label: name, scheme: h, newHash: newHash}
	for _, secret := range secrets {
		v.secrets = append(v.secrets, []byte(secret))
	}
	return v, nil
}

// Verify implements Verifier.
func (v *hmacVerifier) Verify(header map[string][]string, body []byte) error {
	name := strings.ToLower(v.scheme.Header)
	value, err := one(header, v.scheme.Header)
	if err != nil {
		return err
	}
	text, found := strings.CutPrefix(value, v.scheme.Prefix)
	if !found {
		return fmt.Errorf("%w: %s does not begin with %q", ErrHeader, name, v.scheme.Prefix)
	}
	decode, what := hex.DecodeString, Hex
	if v.scheme.Encoding == Base64 {
		decode, what = encoding.DecodeString, Base64
	}
	given, err := decode(text)
	if err != nil {
		return fmt.Errorf("%w: %s holds no %s after %q", ErrHeader, name, what, v.scheme.Prefix)
	}
	for _, secret := range v.secrets {
		if hmac.Equal(sum(hmac.New(v.newHash, secret), nil, body), given) {
			return nil
		}
	}
	return fmt.Errorf("%w (secrets: %d): the secret is another one, or the body was changed before it was verified",
		ErrMismatch, len(v.secrets))
}
