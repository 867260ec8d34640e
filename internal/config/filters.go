package config

import "strings"

// shortToken is the length below which a token causes a warning: it might be guessed.
const shortToken = 16

// Tokens returns the tokens of the filter endpoint as given.
func (f *Filters) Tokens() []string {
	if f.FilterTokens == "" {
		return nil
	}
	return strings.Split(f.FilterTokens.Reveal(), listSeparator)
}

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
