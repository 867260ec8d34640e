package sender

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// Unsigned is the name of the scheme that signs nothing.
const Unsigned = "none"

var errSign = errors.New("the request could not be signed")

// sign adds the rule's signature, or else that of the settings.
func (s *Sender) sign(r *rule.Rule, id string, at time.Time, body []byte, header http.Header) error {
	if a := r.Access; a != nil && (a.Unsigned || len(a.Signings) > 0) {
		return signAs(a, id, at, body, header)
	}
	if s.options.Signer == nil {
		return nil
	}
	if err := s.options.Signer.Sign(r, id, at.Unix(), body, header); errors.Is(err, errAuthorization) {
		return errAuthorization
	} else if err != nil {
		return errSign // not wrapped: it may hold a secret
	}
	return nil
}

// signAs signs with the first of the rule's signings that has not expired.
func signAs(a *rule.Access, id string, at time.Time, body []byte, header http.Header) error {
	if a.Unsigned {
		return nil
	}
	for i := range a.Signings {
		signing := &a.Signings[i]
		if !signing.Until.IsZero() && !at.Before(signing.Until) {
			continue
		}
		if signing.Authorization && header["Authorization"] != nil {
			return errAuthorization
		}
		if err := signing.Signer.Sign(header, id, at, body); err != nil {
			return errSign
		}
		return nil
	}
	return errSign
}

// NewSigner returns a Signer for a scheme of signature.Named; nil for Unsigned or "". It signs with
// all secrets, or with the first if the scheme allows one signature. Its errors show no secret.
func NewSigner(scheme string, secrets ...string) (Signer, error) {
	if scheme == Unsigned || scheme == "" {
		return nil, nil
	}
	named, ok := signature.Named(scheme)
	if !ok {
		return nil, fmt.Errorf("sender: unknown signing scheme %q", scheme)
	}
	s, err := signature.NewSigner(named, secrets...)
	if err != nil {
		return nil, err
	}
	_, own := named.(signature.HMAC)
	return &schemeSigner{scheme: s, authorization: own}, nil
}

type schemeSigner struct {
	scheme        signature.Signer
	authorization bool // the scheme uses the header Authorization
}

// Sign implements Signer.
func (s *schemeSigner) Sign(_ *rule.Rule, id string, timestamp int64, body []byte, header http.Header) error {
	if s.authorization && header["Authorization"] != nil {
		return errAuthorization
	}
	return s.scheme.Sign(header, id, time.Unix(timestamp, 0), body)
}
