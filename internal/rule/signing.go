package rule

import (
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// scheme returns the scheme that the option names, nil for "none".
func (o *SigningOption) scheme() (signature.Scheme, error) {
	switch o.Scheme {
	case "none":
		return nil, nil
	case "generic":
		if err := checkSignatureHeader(o.Header); err != nil {
			return nil, err
		}
		encoding, hash := signature.Encoding(o.Encoding), signature.Hash(o.Hash)
		return signature.HMAC{Header: o.Header, Prefix: o.Prefix, Encoding: encoding, Hash: hash}, nil
	}
	if named, ok := signature.Named(o.Scheme); ok {
		return named, nil
	}
	return nil, fmt.Errorf("unknown scheme %q: write one of none, standard, sig-hmac-sha256, generic", suggest.Clip(o.Scheme, 30))
}

// checkSignatureHeader says what keeps a signature from standing in a header: as for a rule's own, but for the one that is made for it.
func checkSignatureHeader(name string) error {
	if name == "" {
		return errors.New("the scheme generic needs the name of the signature's header: add --signature-header NAME")
	}
	if textproto.CanonicalMIMEHeaderKey(name) == textproto.CanonicalMIMEHeaderKey(signature.HeaderSignature) {
		return nil
	}
	return CheckHeader(name, "x")
}

// sign makes one signer for each time between two ends of secrets, with all secrets that are good until then.
func (a *Access) sign(o *SigningOption, secrets []SigningSecret) error {
	switch {
	case o == nil && len(secrets) > 0:
		return errors.New("there is a signing secret and no scheme: add --scheme NAME, such as --scheme standard")
	case o == nil:
		return nil
	}
	scheme, err := o.scheme()
	if a.Unsigned = err == nil && scheme == nil; err != nil || a.Unsigned {
		return err
	}
	if len(secrets) == 0 {
		return fmt.Errorf("the scheme %s has no secret: add --secret SECRET", o.Scheme)
	}
	var ends []time.Time
	lasting := false
	for _, s := range secrets {
		if s.Until.IsZero() {
			lasting = true
		} else if !slices.ContainsFunc(ends, s.Until.Equal) {
			ends = append(ends, s.Until)
		}
	}
	if !lasting {
		return errors.New("every signing secret has an end: add --secret SECRET, which has none")
	}
	slices.SortFunc(ends, time.Time.Compare)
	header := signatureHeader(scheme)
	if _, taken := a.Header[header]; taken && header != authorization {
		return fmt.Errorf("the header %s is the signature's, and one of the rule's own: take it out of one of the two", header)
	}
	for _, end := range append(ends, time.Time{}) {
		var good []string
		for _, s := range secrets {
			if s.Until.IsZero() || !end.IsZero() && !s.Until.Before(end) {
				good = append(good, s.Secret)
			}
		}
		signer, err := signature.NewSigner(scheme, good...)
		if err != nil {
			return errors.New(strings.TrimPrefix(err.Error(), "signature: "))
		}
		a.Signings = append(a.Signings, Signing{Signer: signer, Until: end, Authorization: header == authorization})
	}
	return nil
}

// signatureHeader returns the canonical name of the header that holds a scheme's signature.
func signatureHeader(scheme signature.Scheme) string {
	name := signature.HeaderSignature
	if h, ok := scheme.(signature.HMAC); ok {
		name = h.Header
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}
