package sender

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

func (s *Sender) callTest(t *testing.T, url string, limit int) (Answer, error) {
	t.Helper()
	return s.Call(t.Context(), ruleFor(url), delivery.ID{1}, delivery.FormatForm, []byte("a=1"), limit)
}

func TestCall(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "a/b; c=d")
		switch r.URL.Path {
		case "/redirect":
			w.Header().Set("Location", "http://elsewhere.test/s3cret")
			w.WriteHeader(http.StatusFound)
		case "/403":
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, r.Method+" "+string(body)+" "+r.Header.Get("Content-Type")+" "+r.Header.Get("X-Own"))
	}))
	t.Cleanup(server.Close)
	logged := &output{}
	s := newSender(t, func(o *Options) { o.Logger = logged.logger() })
	const said = "POST a=1 application/x-www-form-urlencoded "
	for _, c := range []struct {
		path string
		want Answer
	}{
		{"/", Answer{Status: 200, Reason: "OK", ContentType: "a/b; c=d", Body: []byte(said)}},
		{"/403", Answer{Status: 403, Reason: "Forbidden", ContentType: "a/b; c=d", Body: []byte(said)}},
		{"/redirect", Answer{Status: 302, Reason: "Found", ContentType: "a/b; c=d", Body: []byte(said)}},
	} {
		got, err := s.callTest(t, server.URL+c.path, len(said))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.path, got, err)
		}
	}
	if text := logged.String(); strings.Count(text, "msg=") != 1 || !strings.Contains(text, "redirects") || strings.Contains(text, "s3cret") {
		t.Errorf("logged %s", text)
	}
	r := ruleFor(server.URL)
	r.Access = &rule.Access{Header: map[string]string{"X-Own": "y"}}
	got, err := s.Call(t.Context(), r, delivery.ID{1}, delivery.FormatForm, []byte("a=1"), 100)
	if err != nil || string(got.Body) != said+"y" {
		t.Errorf("%+v, %v", got, err)
	}
}

// The answer that ends with the limit is one, the next longer one is none, whether or not its
// length is said.
func TestCallReadsNoMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "12345")
		if r.URL.Path == "/chunked" {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, "678")
	}))
	t.Cleanup(server.Close)
	s := newSender(t, nil)
	for _, path := range []string{"/", "/chunked"} {
		if got, err := s.callTest(t, server.URL+path, 8); err != nil || string(got.Body) != "12345678" {
			t.Errorf("%s: %q, %v", path, got.Body, err)
		}
		_, err := s.callTest(t, server.URL+path, 7)
		var failed *CallError
		if !errors.As(err, &failed) || failed.Class != delivery.ClassProtocol || failed.Detail != errTooLong.Error() {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestReasonAsOnTheWire(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"403 No  way": "No  way", "403": "", "403 ": "", "299 Caf\xc3\xa9": "CafÃ©", "299 Caf\xe9 ": "Café", "403  \tx": "x",
	} {
		url := raw(t, func(conn net.Conn) {
			request, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, request.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 "+line+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		})
		if got, err := newSender(t, nil).callTest(t, url, 10); err != nil || got.Reason != want {
			t.Errorf("%q: %q, %v", line, got.Reason, err)
		}
	}
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hang.Close)
	cut := raw(t, func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
	})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	logged := &output{}
	s := newSender(t, func(o *Options) { o.Guard, o.Logger = guard(t, "127.0.0.0/8"), logged.logger() })
	for _, c := range []struct {
		name, url string
		ctx       context.Context
		timeout   time.Duration
		want      delivery.ErrorClass
	}{
		{"refused", "http://127.0.0.1:1/s3cret", t.Context(), 0, delivery.ClassConnect},
		{"denied", "http://10.0.0.1/s3cret", t.Context(), 0, delivery.ClassEgress},
		{"wrong URL", "ftp://s3cret/", t.Context(), 0, delivery.ClassRequest},
		{"the rule's timeout", hang.URL + "/s3cret", t.Context(), 50 * time.Millisecond, delivery.ClassTimeout},
		{"the caller's deadline", hang.URL + "/s3cret", late, 0, delivery.ClassTimeout},
		{"given up", hang.URL + "/s3cret", cancelled, 0, delivery.ClassCancelled},
		{"broken off", cut + "/s3cret", t.Context(), 0, delivery.ClassReset},
	} {
		r := ruleFor(c.url)
		r.Limits.Timeout = c.timeout
		answer, err := s.Call(c.ctx, r, delivery.ID{1}, delivery.FormatJSON, []byte("{}"), 100)
		var failed *CallError
		if !errors.As(err, &failed) || failed.Class != c.want || answer.Status != 0 {
			t.Errorf("%s: %+v, %v", c.name, answer, err)
		}
		for _, secret := range []string{"s3cret", "10.0.0.1", "127.0.0.1"} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	if text := logged.String(); !strings.Contains(text, "class=connect") || strings.Contains(text, "s3cret") {
		t.Errorf("logged %s", text)
	}
}
