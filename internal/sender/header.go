package sender

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

const (
	errHeader fault = "a header of the request is reserved, or has an invalid name or value"
	// errAuthorization ends a delivery at once: either value might reach a receiver it is not for.
	errAuthorization fault = "two of URL, options and signature need the header Authorization: if the rule's URL contains " +
		"credentials, take them out of the URL; if the signature needs the header, give the rule another scheme, or set " +
		"WEBHOOK_DISPATCHER_SIGNING_SCHEME to another one"
)

// tokenToCome is the placeholder for the token in the header Authorization.
const tokenToCome = "Bearer … (fetched when sent)"

// header makes the request's header, with names in canonical form. If the rule needs a token, the
// header Authorization is tokenToCome.
func (s *Sender) header(r *rule.Rule, d *delivery.Delivery, t *target, at time.Time) (http.Header, error) {
	id := d.ID.String()
	values := [...]string{
		d.Format.ContentType(), "text/plain", s.userAgent, id, strconv.FormatInt(at.Unix(), 10), d.Traceparent, t.authorization,
	}
	header := make(http.Header, 8) // with room for a signature
	for i, name := range [...]string{"Content-Type", "Accept", "User-Agent", "Webhook-Id", "Webhook-Timestamp"} {
		header[name] = values[i : i+1 : i+1]
	}
	// It comes from the bus. A malformed one is left out: tracing must not fail a delivery.
	if event.ValidTraceparent(d.Traceparent) {
		header["Traceparent"] = values[5:6:6]
	}
	if t.authorization != "" {
		header["Authorization"] = values[6:7:7]
	}
	if r.Access == nil && len(s.options.Signings) == 0 {
		return header, nil // nothing to validate
	}
	if r.Access != nil {
		if err := addAccess(header, r.Access); err != nil {
			return nil, err
		}
	}
	if err := s.sign(r, id, at, d.Body, header); err != nil {
		return nil, err
	}
	for name, values := range header {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, errHeader
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return nil, errHeader
			}
		}
	}
	return header, nil
}

// addAccess adds headers and credentials of a rule. It rejects invalid and reserved headers, though
// Compile has done so before.
func addAccess(header http.Header, a *rule.Access) error {
	add := func(name, value string) error {
		if name == "Authorization" && header[name] != nil {
			return errAuthorization
		}
		header[name] = []string{value}
		return nil
	}
	for name, value := range a.Header {
		if rule.CheckHeader(name, value) != nil {
			return errHeader
		}
		if err := add(textproto.CanonicalMIMEHeaderKey(name), value); err != nil {
			return err
		}
	}
	if a.Authorization != "" {
		if err := add("Authorization", a.Authorization); err != nil {
			return err
		}
	}
	if a.OAuth2 != nil {
		return add("Authorization", tokenToCome)
	}
	return nil
}

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
