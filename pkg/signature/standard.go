package signature

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DefaultTolerance is the default of Standard.Tolerance.
const DefaultTolerance = 5 * time.Minute

// Standard is the scheme of Standard Webhooks 1.0.0. It signs webhook-id, webhook-timestamp and the
// body. The header webhook-signature has one signature for each key, separated by spaces.
//
// A secret with the prefix whsec_ is shared and makes signatures of version v1, HMAC-SHA256 with a
// key of 24 to 64 bytes. One with whsk_ makes version v1a, ed25519, which is verified with the
// public key, whpk_. Standard base64 follows the prefix.
//
// The fields are for verifying; the zero value is ready.
type Standard struct {
	// Tolerance is the maximum difference of webhook-timestamp from now, in either direction. 0
	// means DefaultTolerance; negative values are an error.
	Tolerance time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const (
	version1  = "v1"
	version1a = "v1a"
	// maxTried bounds the signatures of a request: verifying ed25519 is slow.
	maxTried  = 32
	maxDigits = 11 // of a timestamp: up to the year 5138
)

var encoding = base64.StdEncoding.Strict()

type standardSigner struct {
	label
	keys []key
	work sync.Pool // of *work: resetting an HMAC is a third cheaper than making one, without garbage
}

// work is the memory of one call.
type work struct {
	prefix []byte // id.timestamp.
	out    []byte
	sum    []byte
	macs   []hash.Hash // for each key; nil for ed25519
}

func (Standard) newSigner(secrets []string) (Signer, error) {
	keys, err := parseKeys(secrets)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if k.symmetric == nil && k.private == nil {
			return nil, fmt.Errorf("signature: %s is a public key, which cannot sign: give the secret key, whsk_…", position(i, secrets))
		}
	}
	s := &standardSigner{label: label(fmt.Sprintf("signature.Signer of %d secrets", len(keys))), keys: keys}
	s.work.New = func() any {
		w := &work{macs: make([]hash.Hash, len(keys)), sum: make([]byte, 0, sha256.Size)}
		for i, k := range keys {
			if k.symmetric != nil {
				w.macs[i] = hmac.New(sha256.New, k.symmetric)
			}
		}
		return w
	}
	return s, nil
}

// Sign implements Signer.
func (s *standardSigner) Sign(header map[string][]string, id string, timestamp time.Time, body []byte) error {
	if err := validID(id); err != nil {
		return fmt.Errorf("signature: the id %w", err)
	}
	seconds := timestamp.Unix()
	if seconds < 0 {
		return errors.New("signature: the timestamp lies before 1970")
	}
	if header == nil {
		return errors.New("signature: the header is nil")
	}
	w := s.work.Get().(*work)
	defer s.work.Put(w)
	w.prefix = append(append(w.prefix[:0], id...), '.')
	w.prefix = append(strconv.AppendInt(w.prefix, seconds, 10), '.')
	w.out = w.out[:0]
	var message []byte // ed25519 takes it in one piece
	for i, k := range s.keys {
		if i > 0 {
			w.out = append(w.out, ' ')
		}
		if mac := w.macs[i]; mac != nil {
			w.sum = sum(mac, w.sum, w.prefix, body)
			w.out = encoding.AppendEncode(append(w.out, version1+","...), w.sum)
			continue
		}
		if message == nil {
			message = slices.Concat(w.prefix, body)
		}
		w.out = encoding.AppendEncode(append(w.out, version1a+","...), ed25519.Sign(k.private, message))
	}
	digits := w.prefix[len(id)+1 : len(w.prefix)-1]
	// Do not allocate these if the sender has set them.
	if v := header[HeaderID]; len(v) != 1 || v[0] != id {
		header[HeaderID] = []string{id}
	}
	if v := header[HeaderTimestamp]; len(v) != 1 || v[0] != string(digits) {
		header[HeaderTimestamp] = []string{string(digits)}
	}
	header[HeaderSignature] = []string{string(w.out)}
	return nil
}

type standardVerifier struct {
	label
	keys      []key
	tolerance time.Duration
	now       func() time.Time
}

func (s Standard) newVerifier(secrets []string) (Verifier, error) {
	keys, err := parseKeys(secrets)
	if err != nil {
		return nil, err
	}
	if s.Tolerance < 0 {
		return nil, fmt.Errorf("signature: the tolerance %s is negative", s.Tolerance)
	}
	name := label(fmt.Sprintf("signature.Verifier of %d secrets", len(keys)))
	v := &standardVerifier{label: name, keys: keys, tolerance: cmp.Or(s.Tolerance, DefaultTolerance), now: s.Now}
	if v.now == nil {
		v.now = time.Now
	}
	return v, nil
}

// Verify implements Verifier.
func (v *standardVerifier) Verify(header map[string][]string, body []byte) error {
	id, err := one(header, HeaderID)
	if err != nil {
		return err
	}
	if err := validID(id); err != nil {
		return fmt.Errorf("%w: webhook-id %w", ErrHeader, err)
	}
	timestamp, err := one(header, HeaderTimestamp)
	if err != nil {
		return err
	}
	if err := v.inTime(timestamp); err != nil {
		return err
	}
	signatures, err := one(header, HeaderSignature)
	if err != nil {
		return err
	}
	return v.match(signatures, slices.Concat([]byte(id), []byte{'.'}, []byte(timestamp), []byte{'.'}, body))
}

func (v *standardVerifier) inTime(timestamp string) error {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || len(timestamp) > maxDigits || strings.Trim(timestamp, "0123456789") != "" {
		return fmt.Errorf("%w: webhook-timestamp is not a number of seconds", ErrHeader)
	}
	age, direction := v.now().Sub(time.Unix(seconds, 0)), "ago"
	if age < 0 {
		direction = "in the future"
	}
	if age.Abs() > v.tolerance {
		return fmt.Errorf("%w: the request was signed %s %s, and %s are allowed; is the clock right?",
			ErrTimestamp, age.Abs().Truncate(time.Second), direction, v.tolerance)
	}
	return nil
}

// match looks for a signature of the message by one of the keys. It skips versions without a key.
func (v *standardVerifier) match(signatures string, message []byte) error {
	sums := make([][]byte, len(v.keys))
	tried := 0
	for entry := range strings.SplitSeq(signatures, " ") {
		version, text, _ := strings.Cut(entry, ",")
		if !slices.ContainsFunc(v.keys, func(k key) bool { return k.version == version }) {
			continue
		}
		if tried++; tried > maxTried {
			return fmt.Errorf("%w: webhook-signature has more than %d signatures", ErrHeader, maxTried)
		}
		given, err := encoding.DecodeString(text)
		if err != nil {
			continue
		}
		for i, k := range v.keys {
			if k.version != version {
				continue
			}
			if k.symmetric == nil {
				if ed25519.Verify(k.public, message, given) {
					return nil
				}
				continue
			}
			if sums[i] == nil {
				sums[i] = sum(hmac.New(sha256.New, k.symmetric), nil, message)
			}
			if hmac.Equal(sums[i], given) {
				return nil
			}
		}
	}
	if tried == 0 {
		return fmt.Errorf("%w: webhook-signature has none of the version that the secrets are for (whsec_: v1; whsk_, whpk_: v1a)", ErrMismatch)
	}
	return fmt.Errorf("%w (signatures: %d, secrets: %d): the secret is another one, or the body was changed before it was verified",
		ErrMismatch, tried, len(v.keys))
}

// sum overwrites buf with the MAC of the parts.
func sum(mac hash.Hash, buf []byte, parts ...[]byte) []byte {
	mac.Reset()
	for _, part := range parts {
		mac.Write(part) // never fails
	}
	return mac.Sum(buf[:0])
}

// validID rejects ids with a full stop, which separates id, timestamp and body in the signed text,
// and with characters that are invalid in a header.
func validID(id string) error {
	if id == "" {
		return errors.New("is empty")
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c == '.':
			return errors.New("has a full stop in it")
		case c <= ' ' || c >= 0x7f:
			return errors.New("has a character in it that is not visible ASCII")
		}
	}
	return nil
}

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
