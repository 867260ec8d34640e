package rule

import (
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

// Access is what a rule's requests carry beside body and standard headers. It is immutable, and holds secrets: it must not be
// printed.
type Access struct {
	// Header are headers of the rule's own, by canonical name, one value each. None is reserved; see CheckHeader.
	Header map[string]string
	// Authorization is the whole value of that header, "" for none.
	Authorization string
	// OAuth2 is how to get a token for that header; nil for none. At most one of the two is set.
	OAuth2 *OAuth2
	// Unsigned is set where the rule must not be signed, whatever the settings say.
	Unsigned bool
	// Signings sign requests: the first whose time has not passed. None: as the settings say.
	Signings []Signing
	// Certificate is the client certificate; nil for none.
	Certificate *tls.Certificate
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
	Signer signature.Signer
	Until  time.Time
	// Authorization is set where the scheme's header is Authorization.
	Authorization bool
}

// String keeps secrets out of logs.
func (a *Access) String() string { return "[access]" }

// GoString is String.
func (a *Access) GoString() string { return a.String() }

// NewAccess makes the access that options and secrets describe, nil where they describe none. Its errors hold no secret.
func NewAccess(o *Document, s *Secrets) (*Access, error) {
	var a Access
	if err := a.headers(o.Headers, s.Headers); err != nil {
		return nil, err
	}
	if err := a.auth(o.Auth, s.Auth); err != nil {
		return nil, err
	}
	if err := a.sign(o.Signing, s.Signing); err != nil {
		return nil, err
	}
	if err := a.certify(o.ClientCert, s.ClientCert); err != nil {
		return nil, err
	}
	if a.claims() > 1 {
		return nil, errors.New("more than one of auth, headers and signature sets the header Authorization: leave one")
	}
	if len(a.Header) == 0 && a.claims() == 0 && !a.Unsigned && len(a.Signings) == 0 && a.Certificate == nil {
		return nil, nil
	}
	return &a, nil
}

// authorization is the header that more than one part of an access may need.
const authorization = "Authorization"

// claims counts the parts that set the header Authorization.
func (a *Access) claims() int {
	_, own := a.Header[authorization]
	n := 0
	for _, claimed := range [...]bool{
		own, a.Authorization != "" || a.OAuth2 != nil, slices.ContainsFunc(a.Signings, func(s Signing) bool { return s.Authorization }),
	} {
		if claimed {
			n++
		}
	}
	return n
}

func (a *Access) auth(o *AuthOption, secret string) error {
	if o == nil {
		return nil
	}
	switch {
	case o.Type != "bearer" && o.Type != "basic" && o.Type != "oauth2":
		return fmt.Errorf("unknown auth %q: write one of bearer, basic, oauth2", suggest.Clip(o.Type, 20))
	case secret == "":
		return fmt.Errorf("auth %s has no secret: add %s SECRET", o.Type, secretFlag(o.Type))
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

// secretFlag returns the flag of rules add and rules set that takes the secret of a type of auth.
func secretFlag(auth string) string {
	switch auth {
	case "basic":
		return "--auth-password"
	case "oauth2":
		return "--auth-client-secret"
	}
	return "--auth-token"
}

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
