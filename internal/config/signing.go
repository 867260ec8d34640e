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
func (s *Sending) SigningSecrets() []string {
	if s.SigningSecret == "" {
		return nil
	}
	return strings.Split(s.SigningSecret.Reveal(), listSeparator)
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
