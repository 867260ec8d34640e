// Package signature signs webhooks and verifies their signatures, for the dispatcher and for
// receivers written in Go. It imports only the standard library.
//
// A receiver makes a Verifier once and calls it with the header and the unparsed body of each
// request:
//
//	verifier, err := signature.NewVerifier(signature.Standard{}, "whsec_…")
//	…
//	err = verifier.Verify(r.Header, body)
//
// There are two schemes. Standard is that of Standard Webhooks 1.0.0: it signs id, time and body,
// which prevents replays of recorded requests. HMAC signs only the body, for receivers that support
// nothing else; Richie uses SigHMACSHA256.
//
// No error contains a secret, a signature or any part of a body.
package signature

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Names of headers of Standard Webhooks, in the form of http.Header.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// Errors of Verify wrap one of these. The answer can be 401 for all of them.
var (
	// ErrHeader: a header of the scheme is missing, repeated or malformed.
	ErrHeader = errors.New("signature: unusable header")
	// ErrTimestamp: the request was signed too long ago or too far in the future.
	ErrTimestamp = errors.New("signature: timestamp outside the tolerance")
	// ErrMismatch: no signature matches the body and any of the secrets.
	ErrMismatch = errors.New("signature: no match")
)

// Signer signs requests. It is safe for concurrent use.
type Signer interface {
	// Sign sets or replaces the headers of the scheme. header is an http.Header; id is the same for
	// all attempts at a delivery; timestamp is the time of this attempt; body is exactly what is
	// sent. An error says that id or timestamp cannot be signed; header is then unchanged.
	Sign(header map[string][]string, id string, timestamp time.Time, body []byte) error
}

// Verifier verifies requests. It is safe for concurrent use.
type Verifier interface {
	// Verify returns nil if the request was signed with one of the secrets, else an error that
	// wraps ErrHeader, ErrTimestamp or ErrMismatch. header is an http.Header, with names in any
	// case; body is exactly what was received.
	Verify(header map[string][]string, body []byte) error
}

// Scheme says how requests are signed: a Standard or an HMAC.
type Scheme interface {
	newSigner(secrets []string) (Signer, error)
	newVerifier(secrets []string) (Verifier, error)
}

// NewSigner returns a signer. While a secret is being rotated there are several: a Standard signs
// with all, an HMAC, which allows one signature, with the first. The error says which secret is
// unusable, and why.
func NewSigner(scheme Scheme, secrets ...string) (Signer, error) {
	if err := check(scheme, secrets); err != nil {
		return nil, err
	}
	return scheme.newSigner(secrets)
}

// NewVerifier returns a verifier that accepts signatures of any of the secrets. The error says
// which secret is unusable, and why.
func NewVerifier(scheme Scheme, secrets ...string) (Verifier, error) {
	if err := check(scheme, secrets); err != nil {
		return nil, err
	}
	return scheme.newVerifier(secrets)
}

// label is what a Signer or Verifier prints instead of its keys.
type label string

// String returns the label.
func (l label) String() string { return string(l) }

// GoString is String.
func (l label) GoString() string { return string(l) }

// Named returns the scheme with this name in settings, "standard" or "sig-hmac-sha256".
func Named(name string) (Scheme, bool) {
	switch name {
	case "standard":
		return Standard{}, true
	case "sig-hmac-sha256":
		return SigHMACSHA256(), true
	}
	return nil, false
}

func check(scheme Scheme, secrets []string) error {
	switch {
	case scheme == nil:
		return errors.New("signature: no scheme given")
	case len(secrets) == 0:
		return errors.New("signature: no secret given")
	}
	return nil
}

// one returns the value of a header. Several are an error: a proxy may use another one.
func one(header map[string][]string, name string) (string, error) {
	value, found := "", 0
	for key, values := range header {
		if strings.EqualFold(key, name) && len(values) > 0 {
			value = values[0]
			found += len(values)
		}
	}
	shown := strings.ToLower(name)
	switch {
	case found > 1:
		return "", fmt.Errorf("%w: %s is there %d times", ErrHeader, shown, found)
	case value == "":
		return "", fmt.Errorf("%w: %s is missing", ErrHeader, shown)
	}
	return value, nil
}

// position names a secret without showing it.
func position(i int, secrets []string) string {
	if len(secrets) == 1 {
		return "the secret"
	}
	return fmt.Sprintf("secret %d of %d", i+1, len(secrets))
}
