package egress

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestKeepAliveReusesConnections(t *testing.T) {
	t.Parallel()
	server := serve(t, "127.0.0.1:0", nil)
	server.Start()
	tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32")})
	for range 20 {
		if _, err := post(t, tr, server.URL); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.connections.Load(); n != 1 {
		t.Errorf("%d connections for 20 requests", n)
	}
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	var proto atomic.Value
	server := serve(t, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) { proto.Store(r.Proto) })
	server.EnableHTTP2 = true
	server.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32"), RootCAs: roots})
	for range 5 {
		if _, err := post(t, tr, server.URL); err != nil {
			t.Fatal(err)
		}
	}
	if proto.Load() != "HTTP/2.0" || server.connections.Load() != 1 {
		t.Errorf("%v over %d connections", proto.Load(), server.connections.Load())
	}
	if _, err := post(t, transport(t, Options{Guard: newGuard(t), RootCAs: roots}), server.URL); !IsDenied(err) {
		t.Errorf("over TLS: %v", err)
	}
}

// Both HTTP versions hold all 1xx answers together to the header limit.
func TestEndless1xxIsBounded(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			server := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "</"+strings.Repeat("x", 1000)+">")
				for r.Context().Err() == nil && sent.Load() < 100_000 {
					w.WriteHeader(http.StatusEarlyHints)
					sent.Add(1)
				}
			})
			server.EnableHTTP2 = http2
			server.StartTLS()
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32"), RootCAs: roots})
			_, err := post(t, tr, server.URL)
			if err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want a refusal before the deadline", err)
			}
			if sent.Load() == 100_000 {
				t.Error("100,000 answers were taken")
			}
		})
	}
}

func TestHugeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		server := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 200 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("y", 1000))
			}
		})
		server.EnableHTTP2 = http2
		server.StartTLS()
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		if _, err := post(t, transport(t, Options{Guard: newGuard(t, "127.0.0.1/32"), RootCAs: roots}), server.URL); err == nil {
			t.Errorf("http2=%v: a header of 200 KB was taken", http2)
		}
	}
}

// An HTTP/2 server may send ahead of what is read only as much as the stream's window.
func TestHTTP2BuffersLittle(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	stalled := make(chan struct{})
	server := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		chunk := bytes.Repeat([]byte("z"), 16<<10)
		w.WriteHeader(http.StatusOK)
		go func() { // a write that the window holds up cannot say so
			defer close(stalled)
			last := int64(-1)
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
				now := sent.Load()
				if now == last && now > 0 {
					return
				}
				last = now
			}
		}()
		for sent.Load() < 8<<20 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			sent.Add(int64(len(chunk)))
		}
	})
	server.EnableHTTP2 = true
	server.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32"), RootCAs: roots})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-stalled
	if n := sent.Load(); n > 4*windowBytes {
		t.Errorf("%d bytes were sent without a reader", n)
	}
}

func TestNewPoolRefuses(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	for name, options := range map[string]Options{
		"no guard":           {},
		"negative number":    {Guard: g, Concurrency: -1},
		"SOCKS proxy":        {Guard: g, Proxy: &url.URL{Scheme: "socks5", Host: "proxy:1080"}},
		"proxy with no host": {Guard: g, Proxy: &url.URL{Scheme: "http"}},
	} {
		if _, err := NewPool(options); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	_, err := NewPool(Options{Guard: g, Proxy: &url.URL{Scheme: "ftp", Host: "proxy", User: url.UserPassword("u", "hunter2")}})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}
