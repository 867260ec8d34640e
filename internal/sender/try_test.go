package sender

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Who watches an attempt, or makes a call, hears each time what the log summarises, and which host
// it is about.
func TestTrySaysWhy(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(endpoint.Close)
	refuses := raw(t, func(c net.Conn) {
		request(c)
		say(c, "HTTP/1.1 401 T\r\nContent-Length: 26\r\nConnection: close\r\n\r\n"+`{"error":"invalid_client"}`)
	})
	oauth := func(tokenURL string) *rule.Access {
		return &rule.Access{OAuth2: &rule.OAuth2{TokenURL: tokenURL, ClientID: "c", Secret: "s"}}
	}
	for name, c := range map[string]struct {
		url    string
		access *rule.Access
		class  delivery.ErrorClass
		detail string
		server string // of tokens
	}{
		"answered": {endpoint.URL, nil, "", "", ""},
		"denied":   {"http://10.0.0.1/CANARY", nil, delivery.ClassEgress, "the endpoint is not at an allowed address", ""},
		"denied token server": {
			endpoint.URL, oauth("https://CANARY:CANARY@10.0.0.1:8443/CANARY?CANARY"), delivery.ClassEgress,
			"the authorization server is not at an allowed address", "https://10.0.0.1:8443",
		},
		"wrong client": {endpoint.URL, oauth(refuses + "/CANARY"), delivery.ClassToken, "invalid_client", refuses},
		"broken off": {
			raw(t, func(c net.Conn) { request(c); say(c, ok+"Content-Length: 9\r\n\r\nab") }), nil, delivery.ClassReset, "", "",
		},
		"no URL": {"ftp://h/CANARY", nil, delivery.ClassRequest, `the URL's scheme "ftp" cannot take webhooks: write http:// or https://`, ""},
	} {
		s := newSender(t, func(o *Options) { o.Transport, o.Guard = loopback(t, nil), guard(t, "127.0.0.0/8") })
		r := accessed(c.url, c.access)
		for range 3 { // also what a log would have said once
			a, err := s.Try(t.Context(), r, sample("{}"))
			checkWhy(t, name+", Try", err, c.class, c.detail, c.server)
			if a.Class != c.class || a.Number != 1 || c.class == "" && a.Status != http.StatusNotFound {
				t.Errorf("%s: %+v", name, a)
			}
			_, err = s.Call(t.Context(), r, delivery.ID{1}, delivery.FormatJSON, []byte("{}"), 1<<10)
			checkWhy(t, name+", Call", err, c.class, c.detail, c.server)
		}
	}
}

func checkWhy(t *testing.T, name string, err error, class delivery.ErrorClass, detail, server string) {
	t.Helper()
	if class == "" {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	failed, ok := errors.AsType[*CallError](err)
	if !ok || failed.Class != class || !strings.Contains(failed.Detail, detail) || failed.TokenServer != server {
		t.Errorf("%s: %+v; want %s, %q, %q", name, err, class, detail, server)
		return
	}
	if text := failed.Error() + failed.TokenServer; strings.Contains(text, "CANARY") {
		t.Errorf("%s: %s", name, text)
	}
}
