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

// errAuthorization ends a delivery at once: sending the credentials without the signature, or the signature without the
// credentials, would be refused at best.
var errAuthorization = errors.New("the rule's URL has credentials in it, and the signature needs the same header, Authorization: " +
	"take them out of the URL, or set WEBHOOK_DISPATCHER_SIGNING_SCHEME to another scheme")

// NewSigner returns what signs the requests of all rules by a scheme of signature.Named; nil for Unsigned or "".
// It signs with all secrets, or with the first where the scheme has room for one signature. Its errors show no secret.
func NewSigner(scheme string, secrets ...string) (Signer, error) {
	if scheme == Unsigned || scheme == "" {
		return nil, nil
	}
	named, ok := signature.Named(scheme)
	if !ok {
		return nil, fmt.Errorf("sender: no signing scheme is called %q", scheme)
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
	authorization bool // the scheme's header is Authorization
}

// Sign implements Signer.
func (s *schemeSigner) Sign(_ *rule.Rule, id string, timestamp int64, body []byte, header http.Header) error {
	if s.authorization && header["Authorization"] != nil {
		return errAuthorization
	}
	return s.scheme.Sign(header, id, time.Unix(timestamp, 0), body)
}
