package rule

import (
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/suggest"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// Access is what a rule's requests carry beside body and standard headers. It is immutable, and holds secrets: do not print it.
type Access struct {
	// Header are headers of the rule's own, by canonical name, one value each. None is reserved; see CheckHeader.
	Header map[string]string
	// Authorization is the whole value of that header, OAuth2 is how to get a token for it; one of the two at most is set.
	Authorization string
	OAuth2        *OAuth2
	Unsigned      bool             // the rule must not be signed, whatever the settings say
	Signings      []Signing        // sign requests: the first whose time has not passed; none: as the settings say
	Certificate   *tls.Certificate // the client certificate; nil for none
}

// OAuth2 is a client of an authorization server, for the grant client_credentials of RFC 6749. It is comparable.
type OAuth2 struct {
	TokenURL string
	ClientID string
	Secret   string
	Scopes   string // separated by spaces
	Audience string
	InBody   bool // the client's credentials stand in the form, not in an Authorization header
}

// Signing is a signer with the moment until which it is to be used; zero: for good.
type Signing struct {
	Signer        signature.Signer
	Until         time.Time
	Authorization bool // the scheme's header is Authorization
}

// String keeps secrets out of logs.
func (a *Access) String() string { return "[access]" }

// GoString is String.
func (a *Access) GoString() string { return a.String() }

// NewAccess makes the access that options and secrets describe, nil where they describe none. Its errors hold no secret.
func NewAccess(o *Document, s *Secrets) (*Access, error) {
	var a Access
	err := cmp.Or(a.headers(o.Headers, s.Headers), a.auth(o.Auth, s.Auth), a.sign(o.Signing, s.Signing), a.certify(o.ClientCert, s.ClientCert))
	switch {
	case err != nil:
		return nil, err
	case a.claims() > 1:
		return nil, errors.New("more than one of auth, headers and signature sets the header Authorization: leave one")
	case len(a.Header) == 0 && a.claims() == 0 && !a.Unsigned && len(a.Signings) == 0 && a.Certificate == nil:
		return nil, nil
	}
	return &a, nil
}

// authorization is the header that more than one part of an access may need.
const authorization = "Authorization"

// claims counts the parts that set the header Authorization.
func (a *Access) claims() int {
	n := 0
	if _, own := a.Header[authorization]; own {
		n++
	}
	if a.Authorization != "" || a.OAuth2 != nil {
		n++
	}
	if slices.ContainsFunc(a.Signings, func(s Signing) bool { return s.Authorization }) {
		n++
	}
	return n
}

func (a *Access) auth(o *AuthOption, secret string) error {
	if o == nil {
		return nil
	}
	switch {
	case secretFlags[o.Type] == "":
		return fmt.Errorf("unknown auth %q: write one of bearer, basic, oauth2", suggest.Clip(o.Type, 20))
	case secret == "":
		return fmt.Errorf("auth %s has no secret: add %s SECRET", o.Type, secretFlags[o.Type])
	case o.Type == "bearer":
		if strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return errors.New("the bearer token has a character that no token has: give the token alone, without Bearer before it")
		}
		a.Authorization = "Bearer " + secret
	case o.Type == "basic":
		if o.Username == "" || strings.Contains(o.Username, ":") {
			return errors.New("auth basic needs a user name, without a colon in it: add --auth-user NAME")
		}
		a.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(o.Username+":"+secret))
	default:
		return a.oauth2(o, secret)
	}
	return nil
}

// secretFlags are the flags of rules add and rules set that take the secret, by type of auth.
var secretFlags = map[string]string{"bearer": "--auth-token", "basic": "--auth-password", "oauth2": "--auth-client-secret"}

func (a *Access) oauth2(o *AuthOption, secret string) error {
	if _, err := ParseURL(o.TokenURL); err != nil {
		return fmt.Errorf("the token URL of auth oauth2 (--auth-token-url): %w", err)
	}
	switch {
	case hasCredentials(o.TokenURL): // which everybody sees who sees the options
		return errors.New("the token URL of auth oauth2 has credentials in it: give them as client id and secret")
	case o.ClientID == "":
		return errors.New("auth oauth2 has no client id: add --auth-client-id ID")
	case o.Style != "" && o.Style != "header" && o.Style != "body":
		return fmt.Errorf("unknown style %q of auth oauth2: write header or body", suggest.Clip(o.Style, 20))
	}
	a.OAuth2 = &OAuth2{
		TokenURL: o.TokenURL, ClientID: o.ClientID, Secret: secret, Scopes: strings.Join(o.Scopes, " "), Audience: o.Audience,
		InBody: o.Style == "body",
	}
	return nil
}

func (a *Access) certify(o *CertificateOption, pem string) error {
	if o == nil && pem == "" {
		return nil
	}
	certificate, err := tls.X509KeyPair([]byte(pem), []byte(pem))
	if err != nil { // not wrapped: it could hold parts of the file
		return errors.New("the client certificate cannot be used: give a PEM file with the certificate and one with its key")
	}
	a.Certificate = &certificate
	return nil
}
