package egress

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// Every spelling of a loopback or link-local address that a URL can have, and names that resolve to
// one. No connection is opened, and what is refused is refused by the guard: with the loopback
// allowed, a request to the same name arrives.
func TestNoSpellingGetsPastTheGuard(t *testing.T) {
	t.Parallel()
	server := serve(t, "127.0.0.1:0", nil)
	server.Start()
	six := trap(t, "[::1]:"+server.port())
	// As a resolver of the C library's kind takes numeric names, and the public DNS names that hold
	// an address.
	resolver, dns := newResolver(t, func(string, int) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
	})
	tr := transport(t, Options{Guard: newGuard(t), Resolver: resolver})
	for kind, hosts := range map[string][]string{
		"addresses": {"127.0.0.1", "0.0.0.0", "127.255.255.254", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"},
		"numbers":   {"0x7f000001", "0x7f.0.0.1", "0x7f.1", "0x0", "127.0.0.0x1"},
		"IPv6": {
			"[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:FFFF:7F00:0001]", "[::127.0.0.1]",
			"[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[2606:4700::5efe:7f00:1]",
			"[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[64:ff9b::a9fe:a9fe]", "[::ffff:169.254.169.254]",
		},
		"zones":         {"[fe80::1%25lo]", "[fe80::1%25eth0]", "[::1%25lo]", "[::ffff:127.0.0.1%25lo]", "[fe80::1%251]"},
		"trailing dots": {"localhost.", "metadata.google.internal.", "127.0.0.1.nip.io."},
		"names": {
			"localhost", "LOCALHOST", "localhost.localdomain", "127.0.0.1.nip.io", "7f000001.nip.io", "www.127-0-0-1.sslip.io",
			"metadata.google.internal", "internal.test", "a_b.test", "xn--0ca.test",
		},
		"IDNA": {"①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "127．0．0．1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "ｌｏｃａｌｈｏｓｔ", "loc\u00adalhost"},
		"userinfo": {
			"ok@127.0.0.1", "ok:80@127.0.0.1", "public.test%2F@127.0.0.1", "public.test%23@127.0.0.1", "public.test:443@[::1]", "@127.0.0.1",
			"127.0.0.1@internal.test",
		},
	} {
		for _, host := range hosts {
			target := "http://" + host + ":" + server.port() + "/"
			if _, err := post(t, tr, target); !IsDenied(err) {
				t.Errorf("%s: %s: %v", kind, target, err)
			}
		}
	}
	// Go takes these for names, and for none that could exist: it does not even ask. The C
	// library's resolver, which a build may have, would make addresses of them, and the guard would
	// see those.
	for _, host := range []string{
		"2130706433", "0177.0.0.1", "00000177.0.0.1", "017700000001", "127.1", "127.0.1", "0", "127.0.0.01", "4294967295", "127.0.0.256",
		"127.0.0.1.", "127.0.0.1..", "①②⑦。１",
	} {
		_, err := post(t, tr, "http://"+host+":"+server.port()+"/")
		if _, ok := errors.AsType[*net.DNSError](err); !ok || dns.lookups(host+".") != 0 {
			t.Errorf("%s: %v, want an error of the look-up", host, err)
		}
	}
	// What looks like another host to a careless reader.
	for _, target := range []string{
		"http://127.0.0.1:" + server.port() + "#@public.test/", "http://127.0.0.1:" + server.port() + "?@public.test/",
		"http://127.0.0.1:" + server.port() + "/@public.test", "http://internal.test:" + server.port() + "#@8.8.8.8/",
		"http://8.8.8.8@127.0.0.1:" + server.port() + "/", "HTTP://127.0.0.1:" + server.port() + "/%2e%2e/",
	} {
		if _, err := post(t, tr, target); !IsDenied(err) {
			t.Errorf("%s: %v", target, err)
		}
	}
	if n := server.connections.Load() + six.connections.Load(); n != 0 {
		t.Errorf("%d connections were opened", n)
	}
	open := transport(t, Options{Guard: newGuard(t, "127.0.0.0/8"), Resolver: resolver})
	for _, host := range []string{"127.0.0.1", "0x7f000001", "localhost.", "127.0.0.1.nip.io", "①②⑦.⓪.⓪.①", "ok@127.0.0.1"} {
		if status, err := post(t, open, "http://"+host+":"+server.port()+"/"); err != nil || status != http.StatusOK {
			t.Errorf("allowed: %s: %d, %v", host, status, err)
		}
	}
}

// Spellings of which no request can be made at all.
func TestSpellingsThatAreNoURL(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"http://127%2e0%2e0%2e1/", "http://127.0.0.1%2e/", `http://public.test\@127.0.0.1/`, `http://127.0.0.1\@public.test/`,
		`http://public.test:80\@127.0.0.1/`, "http://[::1%lo]/", "http://[::1]x/", "http://127.0.0.1 .public.test/", "http://127.0.0.1\t/",
		"http://public.test\r\n@127.0.0.1/", "http://[::1/", "http://::1/", "http://127.0.0.1:80:80/", "http://%31%32%37.0.0.1/",
	} {
		if u, err := url.Parse(target); err == nil {
			t.Errorf("%q has the host %q", target, u.Host)
		}
	}
}

// Only the scheme of a webhook is spoken, whoever asks.
func TestOtherSchemes(t *testing.T) {
	t.Parallel()
	tr := transport(t, Options{Guard: newGuard(t, "0.0.0.0/0", "::/0")})
	for _, target := range []string{
		"file:///etc/hostname", "gopher://127.0.0.1:70/x", "ftp://127.0.0.1/x", "unix:///var/run/docker.sock", "data:text/plain,x", "dict://h/x",
	} {
		if status, err := post(t, tr, target); err == nil {
			t.Errorf("%s: %d", target, status)
		}
	}
}

// Whoever looks first sees a public address, and the dial another one: what counts is what is
// dialled.
func TestFirstPublicThenPrivate(t *testing.T) {
	t.Parallel()
	inside := trap(t, "127.0.0.1:0")
	public, private := netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("127.0.0.1")
	resolver, dns := newResolver(t, func(_ string, lookup int) []netip.Addr {
		if lookup == 0 {
			return []netip.Addr{public}
		}
		return []netip.Addr{private}
	})
	g := newGuard(t)
	seen, err := resolver.LookupNetIP(t.Context(), "ip4", "rebind.test")
	if err != nil || len(seen) != 1 || !g.Allowed(seen[0]) {
		t.Fatalf("first look-up: %v, %v", seen, err)
	}
	tr := transport(t, Options{Guard: g, Resolver: resolver})
	for range 3 {
		if _, err := post(t, tr, "http://rebind.test:"+inside.port()+"/"); !IsDenied(err) {
			t.Errorf("%v", err)
		}
	}
	if dns.lookups("rebind.test.") < 2 || inside.connections.Load() != 0 {
		t.Errorf("%d look-ups, %d connections", dns.lookups("rebind.test."), inside.connections.Load())
	}
	// The same name by a proxy: the first request may go, the second may not.
	proxy := serve(t, "127.0.0.1:0", nil)
	proxy.Start()
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxied := transport(t, Options{Guard: g, Resolver: resolver, Proxy: address})
	if _, err := post(t, proxied, "http://again.test/"); err != nil {
		t.Errorf("by a proxy, first: %v", err)
	}
	if _, err := post(t, proxied, "http://again.test/"); !IsDenied(err) || proxy.requests.Load() != 1 {
		t.Errorf("by a proxy, second: %v, and %d requests at the proxy", err, proxy.requests.Load())
	}
}

// A connection that was opened to an allowed address is used again without a look-up, in both HTTP
// versions; the next one that is opened is judged anew.
func TestReuseAndRebinding(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			var proto atomic.Value
			allowed := serve(t, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) { proto.Store(r.Proto) })
			allowed.EnableHTTP2 = version == "HTTP/2.0"
			allowed.StartTLS()
			roots := x509.NewCertPool()
			roots.AddCert(allowed.Certificate())
			denied := trap(t, "127.0.0.2:"+allowed.port())
			resolver, dns := newResolver(t, func(_ string, lookup int) []netip.Addr {
				if lookup == 0 {
					return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
				}
				return []netip.Addr{netip.MustParseAddr("127.0.0.2")}
			})
			tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32"), Resolver: resolver, RootCAs: roots})
			target := "https://example.com:" + allowed.port() + "/" // a name of httptest's certificate
			for range 5 {
				if _, err := post(t, tr, target); err != nil {
					t.Fatal(err)
				}
			}
			if proto.Load() != version || allowed.connections.Load() != 1 || dns.lookups("example.com.") != 1 {
				t.Errorf("%v, %d connections, %d look-ups", proto.Load(), allowed.connections.Load(), dns.lookups("example.com."))
			}
			var err error
			for tries := 0; err == nil && tries < 1000; tries++ { // HTTP/2 takes a moment to see that a connection is idle
				tr.CloseIdleConnections()
				_, err = post(t, tr, target)
			}
			if !IsDenied(err) || denied.connections.Load() != 0 {
				t.Errorf("a new connection: %v, and %d to the denied address", err, denied.connections.Load())
			}
		})
	}
}

// The text is the same whatever a denied name resolves to, and wherever among allowed addresses the
// denied one stands.
func TestDenialTellsNothing(t *testing.T) {
	t.Parallel()
	texts := make(map[string]bool)
	for _, inside := range []string{
		"127.0.0.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "192.168.0.1", "240.0.0.1", "::1", "fd12::1", "fe80::1", "::ffff:10.0.0.1",
	} {
		resolver, _ := newResolver(t, func(string, int) []netip.Addr { return []netip.Addr{netip.MustParseAddr(inside)} })
		_, err := post(t, transport(t, Options{Guard: newGuard(t), Resolver: resolver}), "http://hooks.test/path?query")
		denied, ok := errors.AsType[*DeniedError](err)
		if !ok {
			t.Errorf("%s: %v", inside, err)
			continue
		}
		texts[denied.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("%d texts: %v", len(texts), texts)
	}
}

// Credentials for the proxy stay with the proxy: what travels through it to the target has none.
func TestProxyCredentialsDoNotReachTheTarget(t *testing.T) {
	t.Parallel()
	var leaked atomic.Bool
	target := serve(t, "127.0.0.1:0", func(_ http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if name == "Proxy-Authorization" || name == "Authorization" {
				t.Errorf("%s: %v", name, values)
				leaked.Store(true)
			}
		}
	})
	target.StartTLS()
	var asked atomic.Value
	proxy := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.Host + " " + r.Header.Get("Proxy-Authorization"))
		there, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", target.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer there.Close()
		w.WriteHeader(http.StatusOK)
		here, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		go func() { // ends with the connection to the target
			_, _ = io.Copy(there, buffered)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
	})
	proxy.Start()
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("p", "w")
	roots := x509.NewCertPool()
	roots.AddCert(target.Certificate())
	tr := transport(t, Options{Guard: newGuard(t, "127.0.0.0/8"), Proxy: address, RootCAs: roots})
	if status, err := post(t, tr, target.URL); err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v", status, err)
	}
	if want := "CONNECT " + target.Listener.Addr().String() + " Basic cDp3"; asked.Load() != want {
		t.Errorf("the proxy was asked %q, want %q", asked.Load(), want)
	}
	if leaked.Load() || target.requests.Load() != 1 {
		t.Errorf("leaked %v, %d requests", leaked.Load(), target.requests.Load())
	}
	tr.CloseIdleConnections()
}

// A server that takes the connection and never says a word of TLS holds up a request for the
// handshake's time and no longer.
func TestStalledHandshake(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts by its backlog
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32")})
	if tr.TLSHandshakeTimeout != handshakeTimeout {
		t.Errorf("a handshake may take %s", tr.TLSHandshakeTimeout)
	}
	tr.TLSHandshakeTimeout = 100 * time.Millisecond
	began := time.Now()
	_, err = post(t, tr, "https://"+listener.Addr().String()+"/")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
