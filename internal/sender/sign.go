package sender

import (
	"fmt"
	"net/http"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// Unsigned is the name of the scheme that signs nothing.
const Unsigned = "none"

const errSign fault = "the request could not be signed"

// sign adds the rule's signature, or else that of the settings: by the first signing that has not
// expired.
func (s *Sender) sign(r *rule.Rule, id string, at time.Time, body []byte, header http.Header) error {
	signings := s.options.Signings
	switch a := r.Access; {
	case a == nil:
	case a.Unsigned:
		return nil
	case len(a.Signings) > 0:
		signings = a.Signings
	}
	if len(signings) == 0 {
		return nil
	}
	for i := range signings {
		signing := &signings[i]
		if !signing.Until.IsZero() && !at.Before(signing.Until) {
			continue
		}
		if signing.Authorization && header["Authorization"] != nil {
			return errAuthorization
		}
		if err := signing.Signer.Sign(header, id, at, body); err != nil {
			return errSign // not wrapped: it may hold a secret
		}
		return nil
	}
	return errSign
}

// Signings returns what signs by a scheme of signature.Named; none for Unsigned or "". All secrets
// sign, or the first if the scheme allows one signature. Errors show no secret.
func Signings(scheme string, secrets ...string) ([]rule.Signing, error) {
	if scheme == Unsigned || scheme == "" {
		return nil, nil
	}
	named, ok := signature.Named(scheme)
	if !ok {
		return nil, fmt.Errorf("sender: unknown signing scheme %q", scheme)
	}
	signer, err := signature.NewSigner(named, secrets...)
	if err != nil {
		return nil, err
	}
	_, own := named.(signature.HMAC) // its header is Authorization
	return []rule.Signing{{Signer: signer, Authorization: own}}, nil
}
