package sender

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Each attempt leaves when its own time is up, and the call that one of them began goes on for the
// others.
func TestWaitingForAToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &platform{life: 300, takes: func(int64) error { <-time.After(3 * time.Second); return nil }}
		s := newSender(t, func(o *Options) { o.Transport = p })
		type result struct {
			name     string
			class    delivery.ErrorClass
			ok       bool
			duration time.Duration
		}
		results := make(chan result, 4)
		send := func(ctx context.Context, name string, timeout time.Duration) {
			r := oauthRule("a")
			r.Limits.Timeout = timeout
			a := s.Send(ctx, r, sample("{}"), 1)
			results <- result{name, a.Class, a.OK(), a.Duration}
		}
		cancelled, cancel := context.WithCancel(t.Context())
		go send(cancelled, "caller", time.Minute)
		synctest.Wait() // it begins the call
		go send(t.Context(), "patient", time.Minute)
		go send(t.Context(), "hasty", time.Second)
		synctest.Wait()
		<-time.After(2 * time.Second)
		cancel()
		got := make(map[string]result)
		for range 3 {
			r := <-results
			got[r.name] = r
		}
		for _, want := range []result{
			{"hasty", delivery.ClassToken, false, time.Second},
			{"caller", delivery.ClassCancelled, false, 2 * time.Second},
			{"patient", "", true, 3 * time.Second},
		} {
			if got[want.name] != want {
				t.Errorf("got %+v, want %+v", got[want.name], want)
			}
		}
		if n := p.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// A rule whose attempts are shorter than a token call takes still gets its token, by one call.
func TestTokenCallOutlivesItsAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &platform{life: 300, takes: func(int64) error { <-time.After(700 * time.Millisecond); return nil }}
		s := newSender(t, func(o *Options) { o.Transport = p })
		r := oauthRule("a")
		r.Limits.Timeout = 300 * time.Millisecond
		for _, class := range []delivery.ErrorClass{delivery.ClassToken, delivery.ClassToken, "", ""} {
			if a := s.Send(t.Context(), r, sample("{}"), 1); a.Class != class {
				t.Errorf("class %q, want %q", a.Class, class)
			}
		}
		if n := p.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		// An attempt that has ended already begins none.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.tokens.get(ended, client("b")); err == nil || p.calls.Load() != 1 {
			t.Errorf("%v, %d calls", err, p.calls.Load())
		}
	})
}

// Close ends a call that nobody waits for any more; the test would report its goroutine otherwise.
func TestCloseEndsTokenCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 1)
		begun := time.Now()
		transport := roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			ended <- time.Since(begun)
			return nil, req.Context().Err()
		})
		s := newSender(t, func(o *Options) { o.Transport = transport })
		r := oauthRule("a")
		r.Limits.Timeout = time.Second
		if a := s.Send(t.Context(), r, sample("{}"), 1); a.Class != delivery.ClassToken {
			t.Errorf("%+v", a)
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := s.tokens.get(t.Context(), client("a"))
			waiting <- err
		}()
		synctest.Wait()
		s.Close()
		if took := <-ended; took != time.Second {
			t.Errorf("the call ended after %v", took)
		}
		if err := <-waiting; err == nil {
			t.Error("who waited got a token")
		}
		if a := s.Send(t.Context(), oauthRule("b"), sample("{}"), 1); a.Class != delivery.ClassToken || a.Duration != 0 {
			t.Errorf("after Close: %+v", a)
		}
	})
}

// A server that is down, or hangs, is not asked for each delivery.
func TestTokenFailuresAreKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takes   func(int64) error
		lasts   time.Duration
		timeout time.Duration // of an attempt
	}{
		"down":  {func(int64) error { return errors.New("CANARY") }, 0, time.Minute},
		"hangs": {func(int64) error { <-time.After(time.Hour); return nil }, tokenTimeout, time.Minute},
		"hangs longer than an attempt": {
			func(int64) error { <-time.After(time.Hour); return nil }, tokenTimeout, tokenTimeout - time.Nanosecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &platform{life: 300, takes: c.takes}
				out := &output{}
				s := newSender(t, func(o *Options) { o.Transport, o.Logger = p, out.logger() })
				r := oauthRule("a")
				r.Limits.Timeout = c.timeout
				send := func(calls int64, duration time.Duration) {
					t.Helper()
					a := s.Send(t.Context(), r, sample("{}"), 1)
					if a.Class != delivery.ClassToken || a.Final || a.Status != 0 || a.Duration != duration || p.calls.Load() != calls {
						t.Errorf("%s, final %v, after %v, %d calls; want %d", a.Class, a.Final, a.Duration, p.calls.Load(), calls)
					}
				}
				begin := func(calls int64) {
					t.Helper()
					send(calls, min(c.lasts, c.timeout))
					<-time.After(max(0, c.lasts-c.timeout))
					synctest.Wait() // the call has ended
				}
				begin(1)
				for range 50 {
					send(1, 0)
				}
				<-time.After(tokenFailed - time.Nanosecond)
				send(1, 0)
				<-time.After(time.Nanosecond)
				begin(2)
				if len(p.seen) != 0 {
					t.Errorf("the endpoint got %v", p.seen)
				}
				if text := out.String(); strings.Contains(text, "CANARY") || !strings.Contains(text, "the authorization server") {
					t.Errorf("logged %s", text)
				}
				<-time.After(2 * time.Hour)
			})
		})
	}
}
