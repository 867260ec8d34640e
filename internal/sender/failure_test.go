package sender

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
)

// head reads a request's head, leaves its body, and returns the body's length.
func head(conn net.Conn) (length int64) {
	var read strings.Builder
	for one := make([]byte, 1); !strings.HasSuffix(read.String(), "\r\n\r\n"); {
		if _, err := conn.Read(one); err != nil {
			return 0
		}
		read.Write(one)
	}
	for line := range strings.Lines(read.String()) {
		if value, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			length, _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return length
}

// request reads a whole request. What is left unread would make closing the connection a RST.
func request(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, head(conn)) }

// forever writes text again and again until the connection breaks.
func forever(conn net.Conn, text string) {
	block := strings.Repeat(text, 1+4096/len(text))
	for {
		if _, err := io.WriteString(conn, block); err != nil {
			return
		}
	}
}

// drip writes one byte every few milliseconds until the connection breaks.
func drip(conn net.Conn, text string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := io.WriteString(conn, text[i%len(text):i%len(text)+1]); err != nil {
			return
		}
		<-tick.C
	}
}

func say(conn net.Conn, text string) { _, _ = io.WriteString(conn, text) }

// hang waits until the other side is gone.
func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// reset makes closing the connection a RST.
func reset(conn net.Conn) {
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
}

const ok = "HTTP/1.1 200 OK\r\n"

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	const timeout = 400 * time.Millisecond
	for _, c := range []struct {
		name   string
		handle func(net.Conn)
		status int
		class  delivery.ErrorClass
		slow   bool // may take up to the deadline
	}{
		{"never answers", hang, 0, delivery.ClassTimeout, true},
		{"drips the header", func(c net.Conn) { request(c); drip(c, ok+"X: "+strings.Repeat("a", 4000)) }, 0, delivery.ClassTimeout, true},
		{"drips the body", func(c net.Conn) { request(c); say(c, ok+"\r\n"); drip(c, "x") }, 200, delivery.ClassTimeout, true},
		{
			"stops in the body", func(c net.Conn) { request(c); say(c, ok+"Content-Length: 9\r\n\r\nab"); hang(c) },
			200, delivery.ClassTimeout, true,
		},
		{"never ends its 500", func(c net.Conn) { request(c); say(c, "HTTP/1.1 500 No\r\n\r\nab"); hang(c) }, 500, delivery.ClassTimeout, true},
		{"endless body", func(c net.Conn) { request(c); say(c, ok+"\r\n"); forever(c, "x") }, 200, "", false},
		{"endless chunks", func(c net.Conn) {
			request(c)
			say(c, ok+"Transfer-Encoding: chunked\r\n\r\n")
			forever(c, "1\r\nx\r\n")
		}, 200, "", false},
		{
			"endless gzip", func(c net.Conn) { request(c); say(c, ok+"Content-Encoding: gzip\r\n\r\n"); forever(c, "\x1f\x8b\x08") },
			200, "", false,
		},
		{"announces too much", func(c net.Conn) { request(c); say(c, ok+"Content-Length: 99999999\r\n\r\n"); forever(c, "x") }, 200, "", false},
		{"endless header line", func(c net.Conn) { request(c); say(c, ok+"X: "); forever(c, "y") }, 0, delivery.ClassProtocol, false},
		{"endless header lines", func(c net.Conn) { request(c); say(c, ok); forever(c, "X: y\r\n") }, 0, delivery.ClassProtocol, false},
		{"endless status line", func(c net.Conn) { request(c); forever(c, "HTTP/1.1") }, 0, delivery.ClassProtocol, false},
		{
			"endless 1xx", func(c net.Conn) { request(c); forever(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") },
			0, delivery.ClassProtocol, false,
		},
		{"endless 100", func(c net.Conn) { request(c); forever(c, "HTTP/1.1 100 Continue\r\n\r\n") }, 0, delivery.ClassProtocol, false},
		{
			"endless trailer",
			func(c net.Conn) {
				request(c)
				say(c, ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n")
				forever(c, "X: y\r\n")
			},
			200, delivery.ClassProtocol, false,
		},
		{"endless chunk extension", func(c net.Conn) {
			request(c)
			say(c, ok+"Transfer-Encoding: chunked\r\n\r\n1;")
			forever(c, "x")
		}, 200, delivery.ClassProtocol, false},
		{"1xx, then an answer", func(c net.Conn) { request(c); say(c, "HTTP/1.1 102 P\r\n\r\n"+ok+"Content-Length: 0\r\n\r\n") }, 200, "", false},
		{"switches protocols", func(c net.Conn) {
			request(c)
			say(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
			hang(c)
		}, 101, delivery.ClassProtocol, false},
		{"status 000", func(c net.Conn) { request(c); say(c, "HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n") }, 0, delivery.ClassProtocol, false},
		{"is not HTTP", func(c net.Conn) { request(c); say(c, "220 mail ESMTP\r\n"); hang(c) }, 0, delivery.ClassProtocol, false},
		{"wrong length", func(c net.Conn) { request(c); say(c, ok+"Content-Length: -5\r\n\r\n") }, 0, delivery.ClassProtocol, false},
		{
			"wrong chunk", func(c net.Conn) { request(c); say(c, ok+"Transfer-Encoding: chunked\r\n\r\nzz\r\n") },
			200, delivery.ClassProtocol, false,
		},
		{"closes without an answer", request, 0, delivery.ClassReset, false},
		{"resets without an answer", func(c net.Conn) { request(c); reset(c) }, 0, delivery.ClassReset, false},
		{"closes in the header", func(c net.Conn) { request(c); say(c, ok+"X: y") }, 0, delivery.ClassReset, false},
		{"closes in the body", func(c net.Conn) { request(c); say(c, ok+"Content-Length: 9\r\n\r\nab") }, 200, delivery.ClassReset, false},
		{
			"closes in a chunk", func(c net.Conn) { request(c); say(c, ok+"Transfer-Encoding: chunked\r\n\r\n9\r\nab") },
			200, delivery.ClassReset, false,
		},
		{"ends its body by closing", func(c net.Conn) { request(c); say(c, ok+"\r\nab") }, 200, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			url := raw(t, func(conn net.Conn) { asked.Add(1); c.handle(conn) })
			limit := 20 * time.Second // nothing that ends by itself may depend on the deadline
			if c.slow {
				limit = timeout
			}
			s := newSender(t, func(o *Options) { o.Timeout = limit })
			a := s.Send(t.Context(), ruleFor(url), sample("{}"), 1)
			if a.Status != c.status || a.Class != c.class {
				t.Errorf("status %d, class %q; want %d, %q", a.Status, a.Class, c.status, c.class)
			}
			if len(a.Response) > keepResponse {
				t.Errorf("%d bytes were kept", len(a.Response))
			}
			if c.slow && (a.Duration < timeout || a.Duration > timeout+5*time.Second) || !c.slow && a.Duration > 10*time.Second {
				t.Errorf("took %v", a.Duration)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("%d connections for one attempt", n)
			}
		})
	}
}

// A receiver that answers before it has read the body, and one that answers and never reads it.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	url := raw(t, func(conn net.Conn) {
		head(conn)
		say(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
		<-t.Context().Done() // keeps the connection and reads nothing; the test's end closes it
	})
	s := newSender(t, func(o *Options) { o.Timeout = 20 * time.Second })
	a := s.Send(t.Context(), ruleFor(url), sample(strings.Repeat("x", 16<<20)), 1)
	if a.Status != 413 || a.Class != "" || string(a.Response) != "big" || a.Duration > 10*time.Second {
		t.Errorf("%d %s %v", a.Status, a.Class, a.Duration)
	}
}

// Bodies that do not end cost no more memory than what is read of them, over both HTTP versions.
func TestEndlessBodiesCostLittle(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 32<<10)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	s := newSender(t, func(o *Options) { o.Transport = loopback(t, server) })
	r := ruleFor(server.URL)
	s.Send(t.Context(), r, sample("{}"), 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 50
	for range n {
		if a := s.Send(t.Context(), r, sample("{}"), 1); a.Status != 200 || a.Class != "" || len(a.Response) != keepResponse {
			t.Fatalf("%d %s", a.Status, a.Class)
		}
	}
	runtime.ReadMemStats(&after)
	// The server is in the same process: this bounds both.
	if per := (after.TotalAlloc - before.TotalAlloc) / n; per > 1<<20 {
		t.Errorf("%d bytes were allocated for an attempt", per)
	}
}

func TestConnectErrors(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	_ = listener.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = discard()
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	wantsCert := httptest.NewUnstartedServer(http.NotFoundHandler())
	wantsCert.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	wantsCert.Config.ErrorLog = discard()
	wantsCert.StartTLS()
	t.Cleanup(wantsCert.Close)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.Config.ErrorLog = discard()
	old.StartTLS()
	t.Cleanup(old.Close)
	trusting, trustingOld := loopback(t, wantsCert), loopback(t, old)

	for name, c := range map[string]struct {
		url       string
		transport http.RoundTripper
		class     delivery.ErrorClass
		detail    string
	}{
		"refused":            {"http://" + closed, nil, delivery.ClassConnect, "refused"},
		"unknown authority":  {secure.URL, nil, delivery.ClassTLS, "unknown authority"},
		"other host":         {strings.Replace(secure.URL, "127.0.0.1", "127.0.0.2", 1), loopback(t, secure), delivery.ClassConnect, ""},
		"plain HTTP":         {strings.Replace(plain.URL, "http:", "https:", 1), nil, delivery.ClassTLS, "plain HTTP"},
		"client certificate": {wantsCert.URL, trusting, delivery.ClassTLS, ""},
		"old TLS":            {old.URL, trustingOld, delivery.ClassTLS, ""},
		"closed in the handshake": {
			strings.Replace(raw(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 10)) }), "http:", "https:", 1), nil, delivery.ClassReset, "",
		},
		"garbage in the handshake": {
			strings.Replace(raw(t, func(c net.Conn) { say(c, "SSH-2.0-x\r\n"); hang(c) }), "http:", "https:", 1), nil, delivery.ClassTLS, "",
		},
		"no such name": {"http://no-such-name.invalid/", roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true, Name: "CANARY"}}
		}), delivery.ClassDNS, "does not exist"},
		"denied at dial": {"http://127.0.0.1:1/", deniedTransport(t), delivery.ClassEgress, egress.Setting},
		"unknown": {"http://x/", roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("CANARY")
		}), delivery.ClassProtocol, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &output{}
			s := newSender(t, func(o *Options) { o.Transport, o.Logger = c.transport, out.logger() })
			a := s.Send(context.Background(), ruleFor(c.url), sample("{}"), 1)
			if a.Class != c.class || a.Status != 0 || a.OK() {
				t.Errorf("%d %q, want %q", a.Status, a.Class, c.class)
			}
			if text := out.String(); !strings.Contains(text, c.detail) || strings.Contains(text, "CANARY") {
				t.Errorf("logged %s", text)
			}
		})
	}
}

func deniedTransport(t *testing.T) http.RoundTripper {
	t.Helper()
	return pooled(t, egress.Options{Guard: guard(t, "")})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	url := raw(t, func(conn net.Conn) { request(conn); cancel(); hang(conn) })
	out := &output{}
	s := newSender(t, func(o *Options) { o.Logger = out.logger() })
	if a := s.Send(ctx, ruleFor(url), sample("{}"), 1); a.Class != delivery.ClassCancelled {
		t.Errorf("%+v", a)
	}
	if strings.Contains(out.String(), "WARN") {
		t.Errorf("a stop of our own was held against the endpoint: %s", out)
	}
	deadline, cancelDeadline := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelDeadline()
	if a := s.Send(deadline, ruleFor(raw(t, hang)), sample("{}"), 1); a.Class != delivery.ClassTimeout {
		t.Errorf("%+v", a)
	}
}

// net/http sends a request again only when nothing of it was written: one attempt is one request at
// the endpoint.
func TestStaleConnectionIsNoSecondRequest(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	url := raw(t, func(conn net.Conn) {
		request(conn)
		requests.Add(1)
		say(conn, ok+"Content-Length: 0\r\n\r\n")
		head(conn) // takes the second request's head and hangs up
		requests.Add(1)
		reset(conn)
	})
	s := newSender(t, nil)
	if a := s.Send(t.Context(), ruleFor(url), sample("{}"), 1); !a.OK() {
		t.Fatalf("%+v", a)
	}
	if a := s.Send(t.Context(), ruleFor(url), sample("{}"), 2); a.Class != delivery.ClassReset {
		t.Errorf("%+v", a)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests for two attempts", n)
	}
}
