package egress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func pool(t *testing.T, options Options) *Pool {
	t.Helper()
	p, err := NewPool(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseIdleConnections)
	return p
}

// count is the number of transports with a certificate.
func (p *Pool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.certified)
}

// selfSigned makes a certificate for a client of this name.
func selfSigned(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// numbered makes what is a certificate by name only: no two of them are equal.
func numbered(n int) *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{binary.BigEndian.AppendUint64(nil, uint64(n))}}
}

// knowing is a server that asks for a client certificate, and answers with the name in it.
func knowing(t *testing.T, http2 bool) (*counter, *x509.CertPool) {
	t.Helper()
	server := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, name)
	})
	// The authorities that it names have signed none of the certificates.
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	other, err := x509.ParseCertificate(selfSigned(t, "other").Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	server.TLS.ClientCAs.AddCert(other)
	server.EnableHTTP2 = http2
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are closed in the handshake
	server.StartTLS()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, roots
}

func ask(t *testing.T, rt http.RoundTripper, target string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(answer)
}

// A connection belongs to one certificate: whoever has another, or none, gets one of his own.
func TestPoolKeepsCertificatesApart(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		server, roots := knowing(t, http2)
		p := pool(t, Options{Guard: newGuard(t, "127.0.0.1/32"), RootCAs: roots})
		one, two := selfSigned(t, "one"), selfSigned(t, "two")
		again := *one // the same certificate, read a second time
		for range 3 {
			for _, c := range []struct {
				certificate *tls.Certificate
				want        string
			}{{nil, "nobody"}, {one, "one"}, {two, "two"}, {&again, "one"}} {
				if got := ask(t, p.Transport(c.certificate), server.URL); got != c.want {
					t.Errorf("http2=%v: the server saw %q, want %q", http2, got, c.want)
				}
			}
		}
		if n := server.connections.Load(); n != 3 {
			t.Errorf("http2=%v: %d connections, want one for each", http2, n)
		}
	}
}

// What holds for requests without a certificate holds for those with one.
func TestPoolGuardsAll(t *testing.T) {
	t.Parallel()
	server, roots := knowing(t, false)
	certificate := selfSigned(t, "one")
	resolver, _ := newResolver(t, func(string, int) []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
	p := pool(t, Options{Guard: newGuard(t), RootCAs: roots, Resolver: resolver})
	for _, host := range []string{"127.0.0.1", "[::ffff:7f00:1]", "rebind.test"} {
		if _, err := post(t, p.Transport(certificate), "https://"+host+":"+server.port()+"/"); !IsDenied(err) {
			t.Errorf("%s: %v", host, err)
		}
	}
	proxy := serve(t, "127.0.0.1:0", nil)
	proxy.Start()
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	p = pool(t, Options{Guard: newGuard(t), RootCAs: roots, Resolver: resolver, Proxy: address})
	if _, err := post(t, p.Transport(certificate), server.URL); !IsDenied(err) {
		t.Errorf("by a proxy: %v", err)
	}
	if n := server.connections.Load() + proxy.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	certified, ok := p.Transport(certificate).(*http.Transport)
	if !ok || certified.MaxResponseHeaderBytes != maxHeaderBytes || !certified.DisableCompression ||
		certified.TLSHandshakeTimeout != handshakeTimeout || certified.IdleConnTimeout != idleTimeout {
		t.Errorf("limits of a transport with a certificate: %+v", certified)
	}
	if _, err := NewPool(Options{}); err == nil {
		t.Error("a pool without a guard was made")
	}
}

// There is a bounded number of transports, and it is the least used that makes room.
func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, Options{Guard: newGuard(t)})
		first := p.Transport(numbered(0))
		for n := 1; n < maxCertificates; n++ {
			<-time.After(time.Millisecond)
			p.Transport(numbered(n))
		}
		<-time.After(time.Millisecond)
		if p.Transport(numbered(0)) != first {
			t.Error("a transport was lost before there were too many")
		}
		second := p.Transport(numbered(2))
		p.Transport(numbered(maxCertificates))
		if n := p.count(); n != maxCertificates {
			t.Errorf("%d transports", n)
		}
		if p.Transport(numbered(0)) != first || p.Transport(numbered(2)) != second {
			t.Error("one in use was dropped")
		}
		if _, there := p.certified[fingerprintOf(numbered(1))]; there {
			t.Error("the least used is still there")
		}
	})
}

// Whoever is not asked for during the idle time is dropped; every use begins it anew.
func TestPoolDropsIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, Options{Guard: newGuard(t)})
		kept := p.Transport(numbered(1))
		p.Transport(numbered(2))
		for range 3 {
			<-time.After(certificateIdle - time.Second)
			if p.Transport(numbered(1)) != kept {
				t.Error("one in use was dropped")
			}
		}
		if n := p.count(); n != 1 {
			t.Errorf("%d transports", n)
		}
		<-time.After(certificateIdle)
		synctest.Wait()
		if n := p.count(); n != 0 {
			t.Errorf("%d transports after all were idle", n)
		}
		p.Transport(numbered(1))
		key := fingerprintOf(numbered(1))
		p.dropIdle(key, p.certified[key]) // the timer of the use before, come late
		if n := p.count(); n != 1 {
			t.Error("one was dropped that had just been asked for")
		}
		p.CloseIdleConnections()
		if n := p.count(); n != 0 {
			t.Errorf("%d transports after the end", n)
		}
	})
}

// For the race detector: asking, dropping and sending at once.
func TestPoolConcurrently(t *testing.T) {
	t.Parallel()
	server, roots := knowing(t, false)
	p := pool(t, Options{Guard: newGuard(t, "127.0.0.1/32"), RootCAs: roots})
	certificates := []*tls.Certificate{nil, selfSigned(t, "one"), selfSigned(t, "two")}
	names := []string{"nobody", "one", "two"}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := range 10 {
				i := (worker + n) % len(names)
				if got := ask(t, p.Transport(certificates[i]), server.URL); got != names[i] {
					t.Errorf("the server saw %q, want %q", got, names[i])
				}
				p.Transport(numbered(worker*100 + n))
				if n%7 == 0 {
					p.CloseIdleConnections()
				}
			}
		})
	}
	wg.Wait()
}
