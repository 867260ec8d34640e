package cli

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Words that take an option away.
const none = "none"

// signingFlags say how requests are signed.
type signingFlags struct {
	Scheme            text `placeholder:"SCHEME" help:"Signature: standard, sig-hmac-sha256, generic, or none whatever the settings say."`
	Secret            text `placeholder:"SECRET" help:"Secret that signs. As with all secrets, @FILE reads a file and - standard input."`
	SignatureHeader   text `placeholder:"NAME" help:"Header of the scheme generic."`
	SignaturePrefix   text `placeholder:"TEXT" help:"What stands before the signature, such as sha256=."`
	SignatureEncoding text `placeholder:"E" help:"Encoding of the signature: hex (default) or base64."`
	SignatureHash     text `placeholder:"HASH" help:"Hash of the signature: sha256 (default), sha512 or sha1."`
}

func (f *signingFlags) changes(in *inputs) (steps []change, err error) {
	if f.Scheme.given {
		steps = append(steps, func(d *draft) error { d.setScheme(f.Scheme.value); return nil })
	}
	for _, o := range []struct {
		flag
		field func(*rule.SigningOption) *string
	}{
		{flag{"signature-header", &f.SignatureHeader}, func(s *rule.SigningOption) *string { return &s.Header }},
		{flag{"signature-prefix", &f.SignaturePrefix}, func(s *rule.SigningOption) *string { return &s.Prefix }},
		{flag{"signature-encoding", &f.SignatureEncoding}, func(s *rule.SigningOption) *string { return &s.Encoding }},
		{flag{"signature-hash", &f.SignatureHash}, func(s *rule.SigningOption) *string { return &s.Hash }},
	} {
		if !o.given {
			continue
		}
		steps = append(steps, func(d *draft) error {
			if d.document.Signing == nil || d.document.Signing.Scheme != "generic" {
				return usagef("--%s goes with --scheme generic: add it, or leave the flag out", o.name)
			}
			*o.field(d.document.Signing) = o.value
			return nil
		})
	}
	if !f.Secret.given {
		return steps, nil
	}
	secret, err := in.secret("secret", f.Secret.value)
	if err != nil {
		return nil, err
	}
	return append(steps, func(d *draft) error { return d.setSecret(secret) }), nil
}

// setScheme sets the scheme. The secret of another one is not kept: a receiver that checks by the new one has not been told it.
func (d *draft) setScheme(scheme string) {
	switch {
	case scheme == "":
		d.document.Signing = nil
	case d.document.Signing == nil || d.document.Signing.Scheme != scheme:
		d.document.Signing = &rule.SigningOption{Scheme: scheme}
		d.secrets.Signing = nil
	}
}

// setSecret makes a secret the only one. One without a scheme signs by Standard Webhooks.
func (d *draft) setSecret(secret string) error {
	if d.document.Signing == nil {
		d.document.Signing = &rule.SigningOption{Scheme: "standard"}
	}
	if d.document.Signing.Scheme == none {
		return usagef("--secret: the scheme none signs nothing: leave the secret out, or give another --scheme")
	}
	d.secrets.Signing = nil
	if secret != "" {
		d.secrets.Signing = []rule.SigningSecret{{Secret: secret}}
	}
	return nil
}

// authFlags say how requests are authorized.
type authFlags struct {
	Auth             text `placeholder:"AUTH" help:"Authorization: bearer, basic, oauth2 (client credentials) or none."`
	AuthToken        text `placeholder:"SECRET" help:"Token of bearer."`
	AuthUser         text `placeholder:"NAME" help:"User of basic."`
	AuthPassword     text `placeholder:"SECRET" help:"Password of basic."`
	AuthTokenURL     text `name:"auth-token-url" placeholder:"URL" help:"Where oauth2 gets its tokens."`
	AuthClientID     text `name:"auth-client-id" placeholder:"ID" help:"Client of oauth2."`
	AuthClientSecret text `placeholder:"SECRET" help:"Secret of that client."`
	AuthScope        text `placeholder:"S,S,…" help:"Scopes that oauth2 asks for."`
	AuthAudience     text `placeholder:"TEXT" help:"Audience that oauth2 asks for."`
	AuthStyle        text `placeholder:"STYLE" help:"Where oauth2 says its client: header (default) or body."`
}

func (f *authFlags) changes(in *inputs) (steps []change, err error) {
	if f.Auth.given {
		steps = append(steps, func(d *draft) error { d.setAuth(f.Auth.value); return nil })
	}
	for _, o := range []struct {
		flag
		kind   string // the --auth that it goes with
		secret bool
		set    func(d *draft, value string) error
	}{
		{flag{"auth-token", &f.AuthToken}, "bearer", true, setAuthSecret},
		{flag{"auth-user", &f.AuthUser}, "basic", false, func(d *draft, v string) error { d.document.Auth.Username = v; return nil }},
		{flag{"auth-password", &f.AuthPassword}, "basic", true, setAuthSecret},
		{flag{"auth-token-url", &f.AuthTokenURL}, "oauth2", false, setTokenURL},
		{flag{"auth-client-id", &f.AuthClientID}, "oauth2", false, func(d *draft, v string) error { d.document.Auth.ClientID = v; return nil }},
		{flag{"auth-client-secret", &f.AuthClientSecret}, "oauth2", true, setAuthSecret},
		{flag{"auth-scope", &f.AuthScope}, "oauth2", false, func(d *draft, v string) error { d.document.Auth.Scopes = scopes(v); return nil }},
		{flag{"auth-audience", &f.AuthAudience}, "oauth2", false, func(d *draft, v string) error { d.document.Auth.Audience = v; return nil }},
		{flag{"auth-style", &f.AuthStyle}, "oauth2", false, func(d *draft, v string) error { d.document.Auth.Style = v; return nil }},
	} {
		if !o.given {
			continue
		}
		value := o.value
		if o.secret {
			if value, err = in.secret(o.name, value); err != nil {
				return nil, err
			}
		} else if value != strings.ToValidUTF8(value, "") {
			return nil, usagef("--%s: the value is not UTF-8", o.name)
		}
		steps = append(steps, func(d *draft) error {
			if d.document.Auth == nil || d.document.Auth.Type != o.kind {
				return usagef("--%s goes with --auth %s: add it, or leave the flag out", o.name, o.kind)
			}
			return o.set(d, value)
		})
	}
	return steps, nil
}

// setAuth sets the kind of authorization. What another kind had is not kept.
func (d *draft) setAuth(kind string) {
	switch {
	case kind == "" || kind == none:
		d.document.Auth = nil
	case d.document.Auth == nil || d.document.Auth.Type != kind:
		d.document.Auth, d.secrets.Auth = &rule.AuthOption{Type: kind}, ""
	}
}

func setAuthSecret(d *draft, secret string) error { d.secrets.Auth = secret; return nil }

// setTokenURL sets the URL of the authorization server, which is shown as it is.
func setTokenURL(d *draft, raw string) error {
	if err := checkTokenURL(raw); err != nil {
		return err
	}
	d.document.Auth.TokenURL = raw
	return nil
}

func checkTokenURL(raw string) error {
	if u, err := url.Parse(raw); err == nil && u.User != nil {
		return usagef("the token URL of auth oauth2 has credentials in it, and is shown to whoever lists the rules: " +
			"give them as --auth-client-id and --auth-client-secret")
	}
	return nil
}

func scopes(value string) (list []string) {
	for scope := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		list = append(list, scope)
	}
	return list
}

// certificateFlags say which certificate the client shows.
type certificateFlags struct {
	ClientCert text `placeholder:"FILE" help:"PEM file of the client certificate and its chain; none takes it away."`
	ClientKey  text `placeholder:"FILE" help:"PEM file of its key; the certificate's own by default."`
}

func (f *certificateFlags) changes(in *inputs) ([]change, error) {
	if !f.ClientCert.given {
		if f.ClientKey.given {
			return nil, usagef("--client-key goes with --client-cert: add it")
		}
		return nil, nil
	}
	if f.ClientCert.value == "" || f.ClientCert.value == none {
		return []change{func(d *draft) error { d.document.ClientCert = nil; return nil }}, nil
	}
	chain, err := in.readFile("client-cert", f.ClientCert.value)
	if err != nil {
		return nil, err
	}
	file := chain
	if f.ClientKey.value != "" {
		key, err := in.readFile("client-key", f.ClientKey.value)
		if err != nil {
			return nil, err
		}
		file = slices.Concat(chain, []byte{'\n'}, key)
	}
	option, err := describe(chain)
	if err != nil {
		return nil, err
	}
	return []change{func(d *draft) error {
		own := *option
		d.document.ClientCert, d.secrets.ClientCert = &own, keyPair(file)
		return nil
	}}, nil
}

// describe reads the first certificate of a PEM file.
func describe(chain []byte) (*rule.CertificateOption, error) {
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil { // not wrapped: it could hold parts of the file
			break
		}
		if now := time.Now(); now.After(certificate.NotAfter) {
			return nil, usagef("--client-cert: the certificate was good until %s only: give a newer one", moment(certificate.NotAfter))
		}
		sum := sha256.Sum256(certificate.Raw)
		return &rule.CertificateOption{
			Subject: certificate.Subject.String(), NotAfter: certificate.NotAfter.UTC(), SHA256: hex.EncodeToString(sum[:]),
		}, nil
	}
	return nil, usagef("--client-cert: the file holds no certificate: give a PEM file")
}

// keyPair keeps of a PEM file what a connection needs: people write notes between the blocks.
func keyPair(file []byte) string {
	var kept strings.Builder
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		kept.Write(pem.EncodeToMemory(block))
	}
	return kept.String()
}
