package sender

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

const (
	// tokenTimeout bounds a token call. The attempt that started it may end earlier.
	tokenTimeout = 5 * time.Second
	// tokenEarly is how long before its expiry a token is replaced, but at most half of its life.
	tokenEarly = 30 * time.Second
	// tokenLeast is the minimum time a token is used, whatever its expiry.
	tokenLeast = time.Second
	// tokenLife is how long a token without an expiry is used.
	tokenLife = time.Hour
	// tokenRefetch is the minimum time between two calls of a client whose tokens are refused.
	tokenRefetch = 10 * time.Second
	// tokenFailed is how long a failure is cached, so that a server that is down is not asked for
	// each delivery.
	tokenFailed    = 5 * time.Second
	tokenUnused    = time.Hour // how long an unused token is kept
	maxTokens      = 4096      // clients whose tokens are kept
	maxTokenAnswer = 64 << 10  // bytes of an authorization server's answer
	maxToken       = 16 << 10  // bytes of a token; common servers accept headers of 8 KiB in all
)

// tokenError says why there is no token. Its text is ours: that of oauth2 includes the answer's
// body.
type tokenError string

func (e tokenError) Error() string { return string(e) }

const (
	errTokenTime   tokenError = "the authorization server did not answer in time"
	errTokenTLS    tokenError = "the authorization server refuses the TLS connection: token calls have no client certificate"
	errTokenScheme tokenError = "the authorization server speaks plain HTTP where its URL says https"
	errTokenClosed tokenError = "no access token is fetched because this process is stopping"
	errTokenAnswer tokenError = "the authorization server gave no usable access token"
	errTokenDenied tokenError = "the authorization server is not at an allowed address; to allow it, add its CIDR block to " + egress.Setting
)

// tokens fetches access tokens and caches them by client.
type tokens struct {
	client *http.Client
	now    func() time.Time

	mu     sync.Mutex
	grants map[rule.OAuth2]*grant // guarded by mu
	closed bool                   // guarded by mu
	calls  sync.WaitGroup         // calls in flight; grows under mu, and not once closed is set
}

// grant is a client's last token or failure, guarded by tokens.mu.
type grant struct {
	token   string
	failed  error      // instead of a token
	fetched time.Time  // when the call ended
	until   time.Time  // when the token or failure expires
	used    time.Time  // when it was last asked for
	calling *tokenCall // nil if none is in flight
}

// tokenCall is a call in flight.
type tokenCall struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed at its end
	token  string        // set before ended is closed
	failed error         // set before ended is closed
}

// newTokens requires a client that does not follow redirects.
func newTokens(client *http.Client, userAgent string, now func() time.Time) *tokens {
	own := *client
	own.Transport = &tokenTransport{next: client.Transport, userAgent: userAgent}
	return &tokens{client: &own, now: now, grants: make(map[rule.OAuth2]*grant)}
}

// get returns a token. Concurrent callers share one call and wait until it or their ctx ends. The
// call continues without them, so a server slower than an attempt's timeout still serves later
// attempts. The error is a tokenError.
func (t *tokens) get(ctx context.Context, o *rule.OAuth2) (string, error) {
	t.mu.Lock()
	g, now := t.grant(o), t.now()
	g.used = now
	if now.Before(g.until) {
		token, failed := g.token, g.failed
		t.mu.Unlock()
		return token, failed
	}
	if g.calling == nil {
		switch {
		case t.closed:
			t.mu.Unlock()
			return "", errTokenClosed
		case ctx.Err() != nil:
			t.mu.Unlock()
			return "", errTokenTime
		}
		t.call(ctx, o, g)
	}
	calling := g.calling
	t.mu.Unlock()
	select {
	case <-calling.ended:
		return calling.token, calling.failed
	case <-ctx.Done():
		return "", errTokenTime
	}
}

// call starts to fetch a token. t.mu is held.
func (t *tokens) call(ctx context.Context, o *rule.OAuth2, g *grant) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenTimeout)
	calling := &tokenCall{cancel: cancel, ended: make(chan struct{})}
	g.calling = calling
	client := *o // the rule may be gone before the call ends
	t.calls.Go(func() {
		defer cancel()
		token, life, err := t.fetch(ctx, &client)
		if err != nil {
			token, life = "", tokenFailed
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		now := t.now()
		g.token, g.failed, g.fetched, g.until = token, err, now, now.Add(life)
		g.calling = nil
		calling.token, calling.failed = token, err
		close(calling.ended)
	})
}

// close cancels the calls in flight and waits for them. No call is made from then on.
func (t *tokens) close() {
	t.mu.Lock()
	t.closed = true
	for _, g := range t.grants {
		if g.calling != nil {
			g.calling.cancel()
		}
	}
	t.mu.Unlock()
	t.calls.Wait()
}

// refused records that an endpoint answered 401 to a token, so the next attempt gets another. An
// endpoint that refuses every token costs one call per tokenRefetch.
func (t *tokens) refused(o *rule.OAuth2, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.grants[*o]; g != nil && g.token == token {
		if again := g.fetched.Add(tokenRefetch); again.Before(g.until) {
			g.until = again
		}
	}
}

// grant returns the client's grant, and makes one if there is none. t.mu is held.
func (t *tokens) grant(o *rule.OAuth2) *grant {
	if g := t.grants[*o]; g != nil {
		return g
	}
	now := t.now()
	for key, g := range t.grants {
		if g.calling == nil && (len(t.grants) >= maxTokens || now.Sub(g.used) >= tokenUnused) {
			delete(t.grants, key)
		}
	}
	g := &grant{}
	t.grants[*o] = g
	return g
}

// fetch makes a token call and returns the token and how long to use it.
func (t *tokens) fetch(ctx context.Context, o *rule.OAuth2) (string, time.Duration, error) {
	config := clientcredentials.Config{
		ClientID: o.ClientID, ClientSecret: o.Secret, TokenURL: o.TokenURL, Scopes: strings.Fields(o.Scopes),
		AuthStyle: oauth2.AuthStyleInHeader, // detecting it would take two calls
	}
	if o.InBody {
		config.AuthStyle = oauth2.AuthStyleInParams
	}
	if o.Audience != "" {
		config.EndpointParams = url.Values{"audience": {o.Audience}}
	}
	answer, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	if err != nil {
		return "", 0, explain(ctx, err)
	}
	if !usable(answer) {
		return "", 0, errTokenAnswer
	}
	if answer.Expiry.IsZero() {
		return answer.AccessToken, tokenLife, nil
	}
	life := time.Until(answer.Expiry) // by the same clock as oauth2
	return answer.AccessToken, max(life-min(tokenEarly, life/2), tokenLeast), nil
}

// usable reports whether the token fits in a header.
func usable(t *oauth2.Token) bool {
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	return t.Type() == "Bearer" && len(t.AccessToken) <= maxToken && !strings.ContainsFunc(t.AccessToken, odd)
}

// explain turns an error of oauth2 or the transport into one that can be logged.
func explain(ctx context.Context, err error) tokenError {
	var answer *oauth2.RetrieveError
	switch {
	case egress.IsDenied(err):
		return errTokenDenied
	case errors.As(err, &answer):
		return explainAnswer(answer)
	case ctx.Err() != nil:
		return errTokenTime
	case refusal(err) != "":
		return errTokenTLS
	case errors.Is(err, http.ErrSchemeMismatch) && !isProxy(err):
		return errTokenScheme
	}
	if detail := describe(err); detail != "" {
		return tokenError("the authorization server gave no access token: " + detail)
	}
	return errTokenAnswer
}

// explainAnswer says why an authorization server refused. It repeats only error codes of RFC 6749.
func explainAnswer(answer *oauth2.RetrieveError) tokenError {
	refused := tokenError("the authorization server refuses the client: " + answer.ErrorCode)
	switch answer.ErrorCode {
	case "invalid_client", "unauthorized_client":
		return refused + "; check client id, secret and style of the rule's auth"
	case "invalid_scope":
		return refused + "; check the scopes of the rule's auth"
	case "invalid_request", "invalid_grant", "unsupported_grant_type":
		return refused
	}
	status := answer.Response.StatusCode
	if isRedirect(status) {
		return "the authorization server redirects, which is not followed: change the token URL of the rule's auth"
	}
	return tokenError("the authorization server gave no access token, and answered with status " + strconv.Itoa(status))
}

// tokenTransport sets the headers of token calls and bounds their answers.
type tokenTransport struct {
	next      http.RoundTripper
	userAgent string
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", t.userAgent)
	req.Header.Set("Accept", "application/json")
	response, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxTokenAnswer), response.Body}
	return response, nil
}
