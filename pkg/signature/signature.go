// Package signature signs webhooks and verifies their signatures. The dispatcher signs with it, and a receiver written in Go can
// verify with it: it imports nothing but the standard library.
//
// A receiver makes a Verifier once and calls it with each request's header and the body as it came, before anything parses it:
//
//	verifier, err := signature.NewVerifier(signature.Standard{}, "whsec_…")
//	…
//	err = verifier.Verify(r.Header, body)
//
// There are two kinds of schemes. Standard is that of Standard Webhooks 1.0.0: id, time and body are signed, so that a
// request that somebody has recorded is of no use to them later. HMAC signs the body alone, for receivers that know nothing
// else; SigHMACSHA256 is the one that Richie takes.
//
// No error holds a secret, a signature or anything of a body.
package signature

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Names of headers of Standard Webhooks, as http.Header spells them.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// Why a request is not accepted; the errors of Verify wrap one of these. They need no different answer: 401 will do for
// all.
var (
	// ErrHeader: a header that the scheme needs is missing, stands there twice or cannot be read.
	ErrHeader = errors.New("signature: unusable header")
	// ErrTimestamp: the request was signed too long ago, or its time lies too far in the future.
	ErrTimestamp = errors.New("signature: timestamp outside the tolerance")
	// ErrMismatch: no signature was made of this body with any of the secrets.
	ErrMismatch = errors.New("signature: no match")
)

// Signer signs requests. It is safe for concurrent use.
type Signer interface {
	// Sign sets the headers of the scheme, in place of any that are there. header is an http.Header. id stays the same over all
	// attempts at a delivery; timestamp is the time of this attempt. body is what goes out, byte for byte; it is not kept.
	// An error says that id or timestamp cannot be signed; then header is as it was.
	Sign(header map[string][]string, id string, timestamp time.Time, body []byte) error
}

// Verifier verifies requests. It is safe for concurrent use.
type Verifier interface {
	// Verify returns nil if the request was signed with one of the secrets, and else an error that wraps ErrHeader, ErrTimestamp
	// or ErrMismatch. header is an http.Header, with names in any case. body is the body as it came, byte for byte.
	Verify(header map[string][]string, body []byte) error
}

// Scheme says how requests are signed: a Standard or an HMAC.
type Scheme interface {
	newSigner(secrets []string) (Signer, error)
	newVerifier(secrets []string) (Verifier, error)
}

// NewSigner returns a signer. While a secret is being replaced there are several: a Standard signs with all of them, an HMAC,
// whose header has room for one signature, with the first. The error says which secret cannot be used, and why.
func NewSigner(scheme Scheme, secrets ...string) (Signer, error) {
	if err := check(scheme, secrets); err != nil {
		return nil, err
	}
	return scheme.newSigner(secrets)
}

// NewVerifier returns a verifier that accepts what was signed with any of the secrets. The error says which secret cannot be used, and
// why.
func NewVerifier(scheme Scheme, secrets ...string) (Verifier, error) {
	if err := check(scheme, secrets); err != nil {
		return nil, err
	}
	return scheme.newVerifier(secrets)
}

// Named returns the scheme that settings call by this name, "standard" or "sig-hmac-sha256".
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

// one returns the only value of a header. Where there are two, nobody can tell which of them others have gone by.
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
