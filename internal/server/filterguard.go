package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

const (
	failureBurst = 10            // wrong credentials that an address may send at once
	failureRate  = rate.Limit(1) // and then per second
	maxAddresses = 4096          // with an allowance of their own; others share one
)

// tokenGuard checks credentials. It is safe for concurrent use.
type tokenGuard struct {
	tokens [][sha256.Size]byte

	mu        sync.Mutex
	failing   map[netip.Prefix]*rate.Limiter // guarded by mu; addresses that recently sent wrong credentials
	remaining *rate.Limiter                  // of all other addresses
}

func newTokenGuard(tokens []string) (*tokenGuard, error) {
	if len(tokens) == 0 {
		return nil, errors.New("filter endpoint: no token, so nobody could use it: set WEBHOOK_DISPATCHER_FILTER_TOKENS")
	}
	g := &tokenGuard{failing: make(map[netip.Prefix]*rate.Limiter), remaining: rate.NewLimiter(failureRate, failureBurst)}
	for i, token := range tokens {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return nil, fmt.Errorf("filter endpoint: token %d in WEBHOOK_DISPATCHER_FILTER_TOKENS is empty or "+
				"has a character that is not visible ASCII", i+1)
		}
		g.tokens = append(g.tokens, sha256.Sum256([]byte(token)))
	}
	return g, nil
}

// check returns the status for the request's credentials: OK, Unauthorized, or Too Many Requests
// after many wrong ones from an address. Correct credentials always pass: the LMS may share its
// address behind a proxy, and locking it out would disable every filter. The limit only bounds the
// cost of guessing; the tokens' length makes it futile.
func (g *tokenGuard) check(r *http.Request) int {
	if g.known(presented(r)) {
		return http.StatusOK
	}
	if !g.allowance(clientOf(r)).Allow() {
		return http.StatusTooManyRequests
	}
	return http.StatusUnauthorized
}

// presented returns the token of a request, "" without one.
func presented(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// known compares with all tokens in constant time.
func (g *tokenGuard) known(token string) bool {
	sum := sha256.Sum256([]byte(token))
	found := 0
	for i := range g.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], g.tokens[i][:])
	}
	return found == 1
}

// clientOf returns a client's address; for IPv6 its /64, as a host may use all of it.
func clientOf(r *http.Request) netip.Prefix {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	addr := client.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // the bits fit
	return prefix
}

func (g *tokenGuard) allowance(client netip.Prefix) *rate.Limiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.failing[client]; l != nil {
		return l
	}
	if len(g.failing) >= maxAddresses {
		for other, l := range g.failing {
			if l.Tokens() >= failureBurst { // as good as new
				delete(g.failing, other)
			}
		}
		if len(g.failing) >= maxAddresses {
			return g.remaining
		}
	}
	l := rate.NewLimiter(failureRate, failureBurst)
	g.failing[client] = l
	return l
}
