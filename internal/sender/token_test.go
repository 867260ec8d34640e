package sender

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// platform is an authorization server at login.test and an endpoint at h.test, without a network.
// It counts, and takes what times and answers the test says.
type platform struct {
	calls  atomic.Int64
	life   int                 // expires_in
	takes  func(n int64) error // what call n meets before it is answered; may block
	denied atomic.Value        // the token to which the endpoint answers 401

	mu   sync.Mutex
	seen []string // guarded by mu; the tokens at the endpoint
}

func (p *platform) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != "login.test" {
		token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		p.mu.Lock()
		p.seen = append(p.seen, token)
		p.mu.Unlock()
		if p.denied.Load() == token {
			return &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}
		return nowhere(req)
	}
	n := p.calls.Add(1)
	if p.takes != nil {
		done := make(chan error, 1)
		go func() { done <- p.takes(n) }()
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	return says(200, "application/json", fmt.Sprintf(`{"access_token":"token%d","token_type":"Bearer","expires_in":%d}`, n, p.life)), nil
}

func client(id string) *rule.OAuth2 {
	return &rule.OAuth2{TokenURL: "https://login.test/token", ClientID: id, Secret: "secret"}
}

func oauthRule(id string) *rule.Rule {
	return accessed("http://h.test/", &rule.Access{OAuth2: client(id)})
}

func TestTokenIsSharedUntilItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &platform{life: 300}
		s := newSender(t, func(o *Options) { o.Transport = p })
		send := func(id string, calls int64, token string) {
			t.Helper()
			if a := s.Send(t.Context(), oauthRule(id), sample("{}"), 1); !a.OK() {
				t.Errorf("%+v", a)
			}
			if n := p.calls.Load(); n != calls || p.seen[len(p.seen)-1] != token {
				t.Errorf("%d calls, token %s; want %d, %s", n, p.seen[len(p.seen)-1], calls, token)
			}
		}
		send("a", 1, "token1")
		send("a", 1, "token1") // another rule of the same client
		send("b", 2, "token2")
		<-time.After(300*time.Second - tokenEarly - time.Nanosecond)
		send("a", 2, "token1")
		<-time.After(time.Nanosecond)
		send("a", 3, "token3")
	})
}

// Each part of what describes a client counts: nobody gets a token that was made for something
// else.
func TestTokensAreKeptApart(t *testing.T) {
	t.Parallel()
	p := &platform{life: 300}
	s := newSender(t, func(o *Options) { o.Transport = p })
	clients := []*rule.OAuth2{client("a"), client("a"), client("a"), client("a"), client("a"), client("a"), client("b")}
	clients[1].Secret, clients[2].Scopes, clients[3].Audience, clients[4].InBody = "other", "read", "https://x.test", true
	clients[5].TokenURL += "/2"
	for range 2 {
		for i, c := range clients {
			token, err := s.tokens.get(t.Context(), c)
			if want := fmt.Sprintf("token%d", i+1); err != nil || token != want {
				t.Errorf("client %d: %s, %v", i, token, err)
			}
		}
	}
}

func TestShortTokens(t *testing.T) {
	t.Parallel()
	for life, used := range map[int]time.Duration{
		20: 10 * time.Second, 1: tokenLeast, -5: tokenLeast, 0: tokenLife, 61: 31 * time.Second, 1 << 40: (1<<31 - 1 - 30) * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &platform{life: life}
			s := newSender(t, func(o *Options) { o.Transport = p })
			for _, c := range []struct {
				wait  time.Duration
				calls int64
			}{{0, 1}, {used - time.Nanosecond, 1}, {time.Nanosecond, 2}} {
				<-time.After(c.wait)
				if _, err := s.tokens.get(t.Context(), client("a")); err != nil || p.calls.Load() != c.calls {
					t.Errorf("expires_in %d, after %v: %d calls, %v", life, c.wait, p.calls.Load(), err)
				}
			}
		})
	}
}

// A hundred deliveries that need a token at once make one call.
func TestOneTokenCallAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &platform{life: 300, takes: func(int64) error { <-time.After(time.Second); return nil }}
		s := newSender(t, func(o *Options) { o.Transport = p })
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if a := s.Send(t.Context(), oauthRule("a"), sample("{}"), 1); !a.OK() || a.Duration != time.Second {
					t.Errorf("%+v", a)
				}
			})
		}
		wg.Wait()
		if n := p.calls.Load(); n != 1 || len(p.seen) != 100 {
			t.Errorf("%d calls for %d deliveries", n, len(p.seen))
		}
	})
}

// A token that an endpoint refuses is replaced, but never more often than once in ten seconds.
func TestRefusedToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &platform{life: 300}
		s := newSender(t, func(o *Options) { o.Transport = p })
		send := func(status int, calls int64) {
			t.Helper()
			a := s.Send(t.Context(), oauthRule("a"), sample("{}"), 1)
			if p.calls.Load() != calls || a.Class != "" || a.Status != status {
				t.Errorf("%d %s, %d calls; want %d, %d", a.Status, a.Class, p.calls.Load(), status, calls)
			}
		}
		send(200, 1)
		<-time.After(time.Minute)
		p.denied.Store("token1") // it was revoked
		send(401, 1)
		send(200, 2) // at once, because the last call is long ago
		p.denied.Store("token2")
		for range 100 {
			send(401, 2)
		}
		<-time.After(tokenRefetch - time.Nanosecond)
		send(401, 2)
		<-time.After(time.Nanosecond)
		send(200, 3)
		// A late answer to a token that has been replaced says nothing of the new one.
		<-time.After(time.Minute)
		s.tokens.refused(client("a"), "token2")
		s.tokens.refused(client("unknown"), "token2")
		send(200, 3)
	})
}

func TestTokensAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &platform{life: 300}
		s := newSender(t, func(o *Options) { o.Transport = p })
		for i := range maxTokens + 10 {
			if _, err := s.tokens.get(t.Context(), client(strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(s.tokens.grants); n != maxTokens {
			t.Errorf("%d clients are kept", n)
		}
		<-time.After(tokenUnused)
		if _, err := s.tokens.get(t.Context(), client("new")); err != nil {
			t.Fatal(err)
		}
		if n := len(s.tokens.grants); n != 1 {
			t.Errorf("%d clients are kept after an hour", n)
		}
	})
}

// For the race detector: calls, waiting, and tokens refused at once.
func TestTokensConcurrently(t *testing.T) {
	t.Parallel()
	p := &platform{life: 1}
	s := newSender(t, func(o *Options) { o.Transport = p })
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for n := range 50 {
				r := oauthRule(strconv.Itoa((worker + n) % 3))
				if n%10 == 0 {
					p.denied.Store("token" + strconv.Itoa(n))
				}
				if a := s.Send(t.Context(), r, sample("{}"), 1); a.Class != "" {
					t.Errorf("%+v", a)
				}
			}
		})
	}
	wg.Wait()
	if len(p.seen) != 16*50 {
		t.Errorf("%d deliveries", len(p.seen))
	}
}
