package sender

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// record answers 204 and gives the request's head as it was on the wire.
func record(t *testing.T) (url string, heads chan string) {
	heads = make(chan string, 16)
	return raw(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			var head strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
				head.WriteString(line)
			}
			heads <- head.String()
			for line := range strings.Lines(head.String()) {
				var n int64
				if _, err := fmt.Sscanf(line, "Content-Length: %d", &n); err == nil {
					if _, err := io.CopyN(io.Discard, in, n); err != nil {
						return
					}
				}
			}
			if _, err := io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
				return
			}
		}
	}), heads
}

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	url, heads := record(t)
	host := strings.TrimPrefix(url, "http://")
	at := time.Unix(1_700_000_000, 999_999_999)
	s := newSender(t, func(o *Options) { o.Now = func() time.Time { return at } })
	id := sample("").ID.String()
	head := func(path, contentType string, length int, more ...string) string {
		lines := append([]string{
			"POST " + path + " HTTP/1.1", "Host: " + host, "User-Agent: webhook-dispatcher/1.2.3", fmt.Sprintf("Content-Length: %d", length),
			"Accept: text/plain",
		}, more...)
		return strings.Join(append(lines, "Content-Type: "+contentType, "Webhook-Id: "+id, "Webhook-Timestamp: 1700000000"), "\n")
	}
	for name, c := range map[string]struct {
		url    string
		change func(*delivery.Delivery)
		want   string
	}{
		"JSON":          {url + "/a/b", nil, head("/a/b", "application/json", 2)},
		"form":          {url, func(d *delivery.Delivery) { d.Format = delivery.FormatForm }, head("/", "application/x-www-form-urlencoded", 2)},
		"empty body":    {url, func(d *delivery.Delivery) { d.Body = nil }, head("/", "application/json", 0)},
		"query kept":    {url + "/x?b=2&a=1&a=%20+;z", nil, head("/x?b=2&a=1&a=%20+;z", "application/json", 2)},
		"query escaped": {url + "/x?q=a b\"é", nil, head("/x?q=a%20b%22%C3%A9", "application/json", 2)},
		"fragment":      {url + "/x?q#frag?ment", nil, head("/x?q", "application/json", 2)},
		"braces":        {url + "/{id}/%2F", nil, head("/%7Bid%7D/%2F", "application/json", 2)},
		"path escaped":  {url + "/a b/é", nil, head("/a%20b/%C3%A9", "application/json", 2)},
		"userinfo": {
			strings.Replace(url, "//", "//us%65r:p%40ss%0d%0aX:y@", 1), nil,
			head("/", "application/json", 2, "Authorization: Basic dXNlcjpwQHNzDQpYOnk="),
		},
		"user alone": {strings.Replace(url, "//", "//user@", 1), nil, head("/", "application/json", 2, "Authorization: Basic dXNlcjo=")},
		"trace": {
			url, func(d *delivery.Delivery) { d.Traceparent = trace },
			strings.Replace(head("/", "application/json", 2), "Webhook-Id", "Traceparent: "+trace+"\nWebhook-Id", 1),
		},
		"injection in trace": {
			url, func(d *delivery.Delivery) { d.Traceparent = trace[:40] + "\r\nX-Evil: 1\r\n" },
			head("/", "application/json", 2),
		},
	} {
		d := sample("{}")
		if c.change != nil {
			c.change(d)
		}
		if a := s.Send(t.Context(), ruleFor(c.url), d, 1); !a.OK() || a.Status != 204 {
			t.Errorf("%s: %+v", name, a)
			continue
		}
		got := strings.TrimSuffix(strings.ReplaceAll(<-heads, "\r", ""), "\n")
		if got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestEveryStatus(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(status)
		if status != 204 && status != 304 {
			_, _ = io.WriteString(w, "body")
		}
	}))
	t.Cleanup(server.Close)
	registry := prometheus.NewRegistry()
	s := newSender(t, func(o *Options) { o.Registerer = registry })
	if n, err := testutil.GatherAndCount(registry, "webhook_dispatcher_http_requests_total"); err != nil || n != len(outcomes) {
		t.Errorf("%d series before the first attempt, %v", n, err)
	}
	for status := 200; status <= 999; status++ {
		a := s.Send(t.Context(), ruleFor(fmt.Sprintf("%s/%d", server.URL, status)), sample("{}"), 3)
		if a.Status != status || a.Class != "" || a.OK() != (status < 300) || a.RetryAfter != 2*time.Minute {
			t.Fatalf("%d: %+v", status, a)
		}
		if want := status != 204 && status != 304; want != (string(a.Response) == "body") {
			t.Errorf("%d: response %q", status, a.Response)
		}
		if a.ID != sample("").ID || a.Kind != delivery.KindWebhook || a.RuleID != 7 ||
			a.EventType != "a.b.c.v1" || a.Number != 3 || a.At.IsZero() {
			t.Fatalf("%+v", a)
		}
	}
	for outcome, want := range map[string]float64{"2xx": 100, "3xx": 100, "4xx": 100, "5xx": 100, "other": 400, "timeout": 0} {
		if got := testutil.ToFloat64(s.metrics.attempts[outcome]); got != want {
			t.Errorf("outcome %s: %v, want %v", outcome, got, want)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	t.Cleanup(trap.Close)
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308} {
		for location, logged := range map[string]string{
			trap.URL + "/CANARY?CANARY#CANARY":         "location=" + trap.URL + "\n",
			"http://u:CANARY@169.254.169.254/latest":   "location=http://169.254.169.254\n",
			"/CANARY":                                  "location=http://127.0.0.1",
			"//other.test/CANARY":                      "location=http://other.test\n",
			"http://[::1/CANARY":                       "",
			"http://a b/CANARY%zz":                     "",
			"javascript:CANARY":                        "",
			"http://" + strings.Repeat("CANARY", 1000): "",
			"": "",
		} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
			}))
			out := &output{}
			s := newSender(t, func(o *Options) { o.Logger = out.logger() })
			// Were it followed, these would be shown to whoever the endpoint names.
			secret := &rule.Access{Authorization: "Bearer CANARY", Header: map[string]string{"X-Api-Key": "CANARY"}}
			a := s.Send(t.Context(), accessed(server.URL, secret), sample("{}"), 1)
			server.Close()
			if a.Status != status || a.Class != "" || a.OK() {
				t.Errorf("%d to %q: %+v", status, location, a)
			}
			text := strings.ReplaceAll(out.String(), " detail", "\ndetail")
			if !strings.Contains(text, "change the URL") || !strings.Contains(text, logged) || strings.Contains(text, "CANARY") {
				t.Errorf("%d to %q: logged %q", status, location, text)
			}
			if logged == "" && strings.Contains(text, "location=") {
				t.Errorf("%d to %q: logged %q", status, location, text)
			}
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		size        int
		chunked     bool
		connections int64
	}{
		{"no body", 0, false, 1},
		{"small", 10, false, 1},
		{"more than is kept", 5000, false, 1},
		{"as large as is read", maxResponse, false, 1},
		{"as large as is read, chunked", maxResponse, true, 1},
		{"larger", maxResponse + 1, false, 5},
		{"larger, chunked", 2 * maxResponse, true, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body := bytes.Repeat([]byte("0123456789abcdef"), c.size/16+1)[:c.size]
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.chunked {
					w.WriteHeader(http.StatusOK)
					_ = http.NewResponseController(w).Flush()
				} else {
					w.Header().Set("Content-Length", fmt.Sprint(c.size))
				}
				_, _ = w.Write(body)
			}))
			var connections atomic.Int64
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					connections.Add(1)
				}
			}
			server.Start()
			t.Cleanup(server.Close)
			s := newSender(t, nil)
			for range 5 {
				a := s.Send(t.Context(), ruleFor(server.URL), sample("{}"), 1)
				if !a.OK() || !bytes.Equal(a.Response, body[:min(c.size, keepResponse)]) {
					t.Fatalf("%+v", a)
				}
			}
			if n := connections.Load(); n != c.connections {
				t.Errorf("%d connections, want %d", n, c.connections)
			}
		})
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s", r.Proto, body)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	s := newSender(t, func(o *Options) { o.Transport = loopback(t, server) })
	a := s.Send(t.Context(), ruleFor(server.URL), sample("{}"), 1)
	if !a.OK() || string(a.Response) != "HTTP/2.0 {}" {
		t.Errorf("%+v, %s", a, a.Response)
	}
}

func TestGzipBombStaysPacked(t *testing.T) {
	t.Parallel()
	packed := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			w.WriteHeader(http.StatusTeapot)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed)
	}))
	t.Cleanup(server.Close)
	a := newSender(t, nil).Send(t.Context(), ruleFor(server.URL), sample("{}"), 1)
	if !a.OK() || !bytes.Equal(a.Response, packed) {
		t.Errorf("%+v", a)
	}
}
