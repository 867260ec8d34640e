package sender

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// proxied is a transport that sends all through a proxy.
func proxied(t *testing.T, proxy string) *http.Transport {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	return pooled(t, egress.Options{Guard: guard(t, "127.0.0.0/8"), Proxy: u})
}

// What is wrong with the proxy is said of the proxy, and never looks like a fault of the endpoint's
// name, certificate or port.
func TestProxyFailures(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := "http://u:CANARY@" + listener.Addr().String()
	_ = listener.Close()
	answers := func(status int) string {
		return raw(t, func(c net.Conn) {
			request(c)
			say(c, fmt.Sprintf("HTTP/1.1 %d CANARY\r\nX: CANARY\r\nContent-Length: 6\r\n\r\nCANARY", status))
		})
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = discard()
	secure.StartTLS()
	t.Cleanup(secure.Close)
	unresolved := &net.DNSError{IsNotFound: true, Name: "CANARY"}

	for name, c := range map[string]struct {
		transport http.RoundTripper
		url       string
		class     delivery.ErrorClass
		status    int
		detail    string
	}{
		"down":                    {proxied(t, down), "http://127.0.0.1:9/CANARY", "connect", 0, theProxy + " refuses connections"},
		"down, https":             {proxied(t, down), "https://127.0.0.1:9/CANARY", "connect", 0, theProxy + " refuses connections"},
		"wants a password":        {proxied(t, answers(407)), "https://127.0.0.1:9/", "connect", 0, theProxy + " requires other credentials"},
		"forbids":                 {proxied(t, answers(403)), "https://127.0.0.1:9/", "connect", 0, "answered with status 403"},
		"reaches nothing":         {proxied(t, answers(502)), "https://127.0.0.1:9/", "connect", 0, "answered with status 502"},
		"unknown authority":       {proxied(t, secure.URL), "https://127.0.0.1:9/", "connect", 0, theProxy + " has a certificate that is"},
		"wants a password, plain": {proxied(t, answers(407)), "http://127.0.0.1:9/", "", 407, "user and password in " + egress.ProxySetting},
		"speaks plain HTTP": {
			proxied(t, strings.Replace(raw(t, func(c net.Conn) { say(c, "HTTP/1.1 400 CANARY\r\n\r\n"); hang(c) }), "http:", "https:", 1)),
			"https://127.0.0.1:9/", "connect", 0, theProxy,
		},
		"has no address": {roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "proxyconnect", Err: &net.OpError{Op: "dial", Err: unresolved}}
		}), "https://h.test/", "connect", 0, theProxy + " has a host name that does not exist"},
		"the endpoint has no address": {roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("%w: %w", egress.ErrProxiedName, unresolved)
		}), "https://h.test/", "dns", 0, "does not exist here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &output{}
			s := newSender(t, func(o *Options) { o.Transport, o.Logger = c.transport, out.logger() })
			a := s.Send(t.Context(), ruleFor(c.url), sample("{}"), 1)
			if a.Class != c.class || a.Status != c.status || a.Final {
				t.Errorf("%d %q, final %v; want %d %q", a.Status, a.Class, a.Final, c.status, c.class)
			}
			if text := out.String(); !strings.Contains(text, c.detail) || strings.Contains(text, "CANARY") {
				t.Errorf("logged %s, want %q", text, c.detail)
			}
		})
	}
}

// A token call goes through the proxy as well.
func TestProxyFailsATokenCall(t *testing.T) {
	t.Parallel()
	proxy := raw(t, func(c net.Conn) { request(c); say(c, "HTTP/1.1 407 T\r\n\r\n") })
	s := newSender(t, func(o *Options) { o.Transport = proxied(t, proxy) })
	access := &rule.Access{OAuth2: &rule.OAuth2{TokenURL: "https://127.0.0.1:9/token", ClientID: "c", Secret: "s"}}
	a, err := s.Try(t.Context(), accessed("https://127.0.0.1:9/", access), sample("{}"))
	const want = "no answer: token: the authorization server gave no access token: " + theProxy + " requires other credentials"
	if a.Class != delivery.ClassToken || err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%q, %v; want %s", a.Class, err, want)
	}
}
