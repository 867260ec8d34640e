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
	// Of wrong credentials an address may send failureBurst at once, and one more each second.
	failureBurst = 10
	failureRate  = rate.Limit(1)
	// maxAddresses bounds what is remembered of clients. Further ones share one allowance.
	maxAddresses = 4096
)

// tokenGuard tells who may ask. It is safe for concurrent use.
type tokenGuard struct {
	tokens [][sha256.Size]byte

	mu        sync.Mutex
	failing   map[netip.Prefix]*rate.Limiter // guarded by mu; addresses that have sent wrong credentials of late
	remaining *rate.Limiter                  // of all that have no place in failing
}

func newTokenGuard(tokens []string) (*tokenGuard, error) {
	if len(tokens) == 0 {
		return nil, errors.New("filter endpoint: there is no token: nobody could use it; set WEBHOOK_DISPATCHER_FILTER_TOKENS")
	}
	g := &tokenGuard{
		failing:   make(map[netip.Prefix]*rate.Limiter),
		remaining: rate.NewLimiter(failureRate, failureBurst),
	}
	for i, token := range tokens {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return nil, fmt.Errorf("filter endpoint: token %d is empty, or has a character that is not visible ASCII: "+
				"write one without, in WEBHOOK_DISPATCHER_FILTER_TOKENS", i+1)
		}
		g.tokens = append(g.tokens, sha256.Sum256([]byte(token)))
	}
	return g, nil
}

// check returns the status for the request's credentials: OK, Unauthorized, or Too Many Requests where an address has sent many that are
// wrong. Those that are right always pass: the LMS may share its address with others behind a proxy, and who could have it locked out by
// wrong guesses could switch off every filter. What is limited is what guessing costs; that it is in vain is up to the tokens' length.
func (g *tokenGuard) check(r *http.Request) int {
	if g.known(presented(r)) {
		return http.StatusOK
	}
	if !g.allowance(clientOf(r)).Allow() {
		return http.StatusTooManyRequests
	}
	return http.StatusUnauthorized
}

// presented returns the token of a request, "" where there is none.
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

// known compares with all tokens, in a time that tells nothing of them.
func (g *tokenGuard) known(token string) bool {
	sum := sha256.Sum256([]byte(token))
	found := 0
	for i := range g.tokens {
		found |= subtle.ConstantTimeCompare(sum[:], g.tokens[i][:])
	}
	return found == 1
}

// clientOf returns the address of a client. One in IPv6 counts with its /64, of which every host may use all.
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
			if l.Tokens() >= failureBurst { // as if it had never been here
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
