package config

import (
	"fmt"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/signature"
)

// noScheme is the scheme's setting when nothing is signed.
const noScheme = "none"

// SigningSecrets returns the secrets that sign requests, the newest first as they were given; none where nothing is signed.
func (s *Sending) SigningSecrets() []string {
	if s.SigningSecret == "" {
		return nil
	}
	return strings.Split(s.SigningSecret.Reveal(), listSeparator)
}

// secretsFault says what is wrong with a list of secrets, each of which is called name; "" where nothing is.
func secretsFault(secrets []string, name string) string {
	for _, secret := range secrets {
		if secret == "" {
			return fmt.Sprintf("has an empty %s in its list: remove the comma that is too many", name)
		}
		if strings.TrimSpace(secret) != secret {
			return fmt.Sprintf("has a space or a line break before or behind a %s: remove it", name)
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
		p.missing(env, "the scheme "+s.SigningScheme+" needs it; a new one is printed by: echo whsec_$(openssl rand -base64 32)")
		return
	}
	secrets := s.SigningSecrets()
	if fault := secretsFault(secrets, "secret"); fault != "" {
		p.add(env, "", "%s", fault)
		return
	}
	if _, err := signature.NewSigner(scheme, secrets...); err != nil {
		// Its text names a secret by its place.
		p.add(env, "", "%s; a new one is printed by: echo whsec_$(openssl rand -base64 32)", strings.TrimPrefix(err.Error(), "signature: "))
	}
}
