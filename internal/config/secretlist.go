package config

import (
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// noScheme is the value of the signing scheme for no signatures.
const noScheme = "none"

// SigningSecrets returns the secrets that sign requests, newest first; none if requests are not
// signed.
func (s *Sending) SigningSecrets() []string { return s.SigningSecret.list() }

// Tokens returns the tokens of the filter endpoint as given.
func (f *Filters) Tokens() []string { return f.FilterTokens.list() }

// list returns the items of a list of secrets; none if it is empty.
func (s Secret) list() []string {
	if s == "" {
		return nil
	}
	return strings.Split(s.Reveal(), listSeparator)
}

// secretsFault says what is wrong with a list of secrets, each called name, or returns "".
func secretsFault(secrets []string, name string) string {
	for _, secret := range secrets {
		if secret == "" {
			return fmt.Sprintf("has an empty %s in its list: remove the extra comma", name)
		}
		if strings.TrimSpace(secret) != secret {
			return fmt.Sprintf("has a space or a line break before or after a %s: remove it", name)
		}
	}
	return ""
}

func (s *Sending) checkSigning(p *problems) {
	const schemeName, env = ownPrefix + "SIGNING_SCHEME", ownPrefix + "SIGNING_SECRET"
	if p.seen[schemeName] {
		return
	}
	scheme, signs := signature.Named(s.SigningScheme)
	switch {
	case !signs && s.SigningScheme != noScheme && s.SigningScheme != "":
		p.add(schemeName, s.SigningScheme, "write one of none, standard, sig-hmac-sha256")
		return
	case !signs:
		if s.SigningSecret != "" {
			p.add(schemeName, noScheme, "signs nothing, but %s is set: write standard or sig-hmac-sha256, or remove the secret", env)
		}
		return
	case s.SigningSecret == "":
		p.missing(env, "the scheme "+s.SigningScheme+" needs it; to make a new one: echo whsec_$(openssl rand -base64 32)")
		return
	}
	secrets := s.SigningSecrets()
	if fault := secretsFault(secrets, "secret"); fault != "" {
		p.add(env, "", "%s", fault)
		return
	}
	if _, err := signature.NewSigner(scheme, secrets...); err != nil {
		// The error names secrets by their position.
		p.add(env, "", "%s; to make a new one: echo whsec_$(openssl rand -base64 32)", strings.TrimPrefix(err.Error(), "signature: "))
	}
}

// shortToken is the length below which a token causes a warning: it might be guessed.
const shortToken = 16

func (f *Filters) check(p *problems) {
	const listen, env = ownPrefix + "FILTER_LISTEN", ownPrefix + "FILTER_TOKENS"
	if f.FilterListen != "" {
		if fault := addressFault(f.FilterListen, false); fault != "" {
			p.add(listen, f.FilterListen, "%s: write [host]:port, such as :8081 or 127.0.0.1:8081", fault)
		}
	}
	tokens := f.Tokens()
	switch {
	case len(tokens) == 0 && f.FilterListen != "":
		p.missing(env, listen+" needs it; to make a new one: openssl rand -hex 24")
		return
	case len(tokens) > 0 && f.FilterListen == "":
		p.warn(env, "is set, but %s is not: nothing listens for webfilters", listen)
	}
	if fault := secretsFault(tokens, "token"); fault != "" {
		p.add(env, "", "%s", fault)
		return
	}
	for i, token := range tokens {
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			p.add(env, "", "token %d of %d has a character that is not visible ASCII: write letters and digits", i+1, len(tokens))
		} else if len(token) < shortToken {
			p.warn(env, "has a short token, number %d of %d, which could be guessed: use at least %d characters; "+
				"to make one: openssl rand -hex 24", i+1, len(tokens), shortToken)
		}
	}
}
