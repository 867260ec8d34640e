package sender

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

const unusable = "no usable access token"

// What a hostile or broken authorization server can answer, and what is said of it. Nothing of its
// words is repeated.
func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	const form = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		status     int
		kind, body string
		detail     string // "" where there is a token
	}{
		"form":              {200, form, "access_token=abc&token_type=bearer&expires_in=60", ""},
		"no type":           {200, "", `{"access_token":"abc"}`, ""},
		"text as a number":  {200, "", `{"access_token":"abc","expires_in":"60"}`, ""},
		"created":           {201, "", `{"access_token":"abc"}`, ""},
		"wrong client":      {401, "", `{"error":"invalid_client","error_description":"CANARY"}`, "invalid_client; check client id"},
		"not for this":      {400, "", `{"error":"unauthorized_client"}`, "unauthorized_client; check client id"},
		"wrong scope":       {400, "", `{"error":"invalid_scope","error_uri":"CANARY"}`, "check the scopes"},
		"error with 200":    {200, "", `{"error":"invalid_grant"}`, "refuses the client: invalid_grant"},
		"error of its own":  {400, "", `{"error":"CANARY"}`, "answered with status 400"},
		"page":              {502, "text/html", "<html>CANARY</html>", "answered with status 502"},
		"redirect":          {302, "", "CANARY", "redirects"},
		"redirect with 307": {307, "", "CANARY", "redirects"},
		"not JSON":          {200, "", "CANARY", unusable},
		"no token":          {200, "", `{"token":"CANARY"}`, unusable},
		"empty":             {200, "", "", unusable},
		"other type":        {200, "", `{"access_token":"CANARY","token_type":"mac"}`, unusable},
		"CR LF":             {200, "", `{"access_token":"CANARY\r\nX: y"}`, unusable},
		"NUL":               {200, "", `{"access_token":"CANARY\u0000"}`, unusable},
		"space":             {200, "", `{"access_token":"CANARY CANARY"}`, unusable},
		"too long":          {200, "", `{"access_token":"` + strings.Repeat("a", maxToken+1) + `"}`, unusable},
		"too much":          {200, "", `{"x":"` + strings.Repeat("a", maxTokenAnswer) + `","access_token":"abc"}`, unusable},
		"deep":              {200, "", strings.Repeat(`{"a":`, 20000), unusable},
	} {
		out := &output{}
		endpoint := 0
		s := newSender(t, func(o *Options) {
			o.Logger = out.logger()
			o.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.URL.Host == "login.test" {
					answer := says(c.status, c.kind, c.body)
					answer.Header.Set("Location", "http://h.test/CANARY")
					answer.Request = req
					return answer, nil
				}
				endpoint++
				if got := req.Header.Get("Authorization"); got != "Bearer abc" {
					t.Errorf("%s: %q", name, got)
				}
				return nowhere(req)
			})
		})
		a := s.Send(t.Context(), oauthRule("CANARY"), sample("{}"), 1)
		if good := c.detail == ""; good != a.OK() || good != (endpoint == 1) {
			t.Errorf("%s: %+v, %d requests at the endpoint", name, a, endpoint)
		}
		if c.detail == "" {
			continue
		}
		if a.Class != delivery.ClassToken || a.Final || a.Status != 0 || len(a.Response) != 0 {
			t.Errorf("%s: %+v", name, a)
		}
		if text := out.String(); !strings.Contains(text, c.detail) || strings.Contains(text, "CANARY") {
			t.Errorf("%s: logged %s", name, text)
		}
	}
}

// Token calls go the way of deliveries: past the guard, without redirects, with bounds.
func TestTokenCallsOverTheNetwork(t *testing.T) {
	t.Parallel()
	endpoint, heads := record(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + listener.Addr().String()
	_ = listener.Close()
	stolen := make(chan string, 1)
	elsewhere := raw(t, func(c net.Conn) { stolen <- "asked"; request(c) })
	outside := make(chan string, 1)
	inside := raw(t, func(c net.Conn) { outside <- "asked"; request(c) })
	for name, c := range map[string]struct {
		url    string
		allow  string
		class  delivery.ErrorClass
		detail string
	}{
		"denied":         {strings.Replace(inside, "http://", "http://CANARY:CANARY@", 1) + "/CANARY", "", delivery.ClassEgress, egress.Setting},
		"denied by name": {strings.Replace(inside, "127.0.0.1", "localhost", 1), "", delivery.ClassEgress, "the authorization server"},
		"refused":        {refused, "127.0.0.0/8", delivery.ClassToken, "the connection was refused"},
		"redirects": {
			raw(t, func(c net.Conn) {
				request(c)
				say(c, "HTTP/1.1 307 T\r\nLocation: "+elsewhere+"/CANARY\r\nContent-Length: 0\r\n\r\n")
			}),
			"127.0.0.0/8", delivery.ClassToken, "redirects, which is not followed",
		},
		"bad redirect": {
			raw(t, func(c net.Conn) {
				request(c)
				say(c, "HTTP/1.1 302 T\r\nLocation: http://[CANARY\r\nContent-Length: 0\r\n\r\n")
			}),
			"127.0.0.0/8", delivery.ClassToken, "redirects, which is not followed",
		},
		"never ends": {raw(t, func(c net.Conn) { request(c); say(c, ok+"\r\n"); drip(c, "x") }), "127.0.0.0/8", delivery.ClassToken, "in time"},
		"bomb": {
			raw(t, func(c net.Conn) { request(c); say(c, ok+"\r\n"); forever(c, " ") }),
			"127.0.0.0/8", delivery.ClassToken, unusable,
		},
		"hangs":        {raw(t, hang), "127.0.0.0/8", delivery.ClassToken, "in time"},
		"no such name": {"http://no-such-name.invalid/", "127.0.0.0/8", delivery.ClassToken, ""},
		"not HTTP":     {raw(t, func(c net.Conn) { request(c); say(c, "CANARY\r\n\r\n") }), "127.0.0.0/8", delivery.ClassToken, unusable},
		"file":         {"file:///etc/passwd", "127.0.0.0/8", delivery.ClassToken, unusable},
		"no URL":       {"http://CANARY\x7f/", "127.0.0.0/8", delivery.ClassToken, unusable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &output{}
			tr := pooled(t, egress.Options{Guard: guard(t, c.allow)})
			limit := 20 * time.Second // what ends by itself may not depend on the deadline
			if c.detail == "in time" {
				limit = 500 * time.Millisecond
			}
			s := newSender(t, func(o *Options) { o.Transport, o.Logger, o.Timeout = tr, out.logger(), limit })
			access := &rule.Access{OAuth2: &rule.OAuth2{TokenURL: c.url, ClientID: "CANARY", Secret: "CANARY"}}
			a := s.Send(t.Context(), accessed(endpoint, access), sample("{}"), 1)
			if a.Class != c.class || a.Final || a.Status != 0 || a.Duration > 15*time.Second {
				t.Errorf("%+v", a)
			}
			if text := out.String(); !strings.Contains(text, c.detail) || strings.Contains(text, "CANARY") {
				t.Errorf("logged %s", text)
			}
			if len(stolen)+len(outside)+len(heads) != 0 {
				t.Errorf("%d redirects followed, %d denied addresses reached, %d requests without a token", len(stolen), len(outside), len(heads))
			}
		})
	}
}
