package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counter is a server that counts connections and requests.
type counter struct {
	*httptest.Server
	connections, requests atomic.Int64
}

func serve(t *testing.T, address string, handler http.HandlerFunc) *counter {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, listener, handler)
}

// trap counts connections to an address that nothing may connect to. On a machine that does not
// have the address (no IPv6, no 127.0.0.2) nothing could.
func trap(t *testing.T, address string) *counter {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		return &counter{}
	}
	c := serveOn(t, listener, nil)
	c.Start()
	return c
}

func serveOn(t *testing.T, listener net.Listener, handler http.HandlerFunc) *counter {
	t.Helper()
	c := &counter{}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		if handler != nil {
			handler(w, r)
		}
	}))
	_ = c.Listener.Close()
	c.Listener = listener
	c.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.connections.Add(1)
		}
	}
	t.Cleanup(c.Close)
	return c
}

func (c *counter) port() string {
	_, port, _ := net.SplitHostPort(c.Listener.Addr().String())
	return port
}

func transport(t *testing.T, options Options) *http.Transport {
	t.Helper()
	pool, err := NewPool(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseIdleConnections)
	return pool.plain
}

func post(t *testing.T, rt http.RoundTripper, target string) (int, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

func TestDeniedByDefaultAndAllowedByCIDR(t *testing.T) {
	t.Parallel()
	server := serve(t, "127.0.0.1:0", nil)
	server.Start()

	_, err := post(t, transport(t, Options{Guard: newGuard(t)}), server.URL)
	var denied *DeniedError
	if !errors.As(err, &denied) || denied.Host != "127.0.0.1" {
		t.Errorf("denied: %v", err)
	}
	if n := server.connections.Load(); n != 0 {
		t.Errorf("%d connections were opened", n)
	}
	status, err := post(t, transport(t, Options{Guard: newGuard(t, "127.0.0.0/8")}), server.URL)
	if err != nil || status != http.StatusOK {
		t.Errorf("allowed: %d, %v", status, err)
	}
}

// The name resolves to an allowed address for whoever looks first, and to a denied one afterwards.
func TestRebinding(t *testing.T) {
	t.Parallel()
	allowed := serve(t, "127.0.0.1:0", nil)
	allowed.Config.SetKeepAlivesEnabled(false) // so that each request dials
	allowed.Start()
	denied := trap(t, "127.0.0.2:"+allowed.port())
	resolver, dns := newResolver(t, func(name string, lookup int) []netip.Addr {
		if name != "rebind.test." {
			return nil
		}
		if lookup == 0 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2")}
	})
	tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32"), Resolver: resolver})
	target := "http://rebind.test:" + allowed.port() + "/"
	if status, err := post(t, tr, target); err != nil || status != http.StatusOK {
		t.Fatalf("first: %d, %v", status, err)
	}
	_, err := post(t, tr, target)
	var refusal *DeniedError
	if !errors.As(err, &refusal) || refusal.Host != "rebind.test" || strings.Contains(err.Error(), "127.0.0.2") {
		t.Errorf("second: %v", err)
	}
	if dns.lookups("rebind.test.") < 2 || denied.connections.Load() != 0 {
		t.Errorf("%d look-ups, %d connections to the denied address", dns.lookups("rebind.test."), denied.connections.Load())
	}
}

// Of several addresses only the allowed ones are dialled, whatever their order and family.
func TestMixedAnswers(t *testing.T) {
	t.Parallel()
	allowed := serve(t, "127.0.0.1:0", nil)
	allowed.Start()
	denied4 := trap(t, "127.0.0.2:"+allowed.port())
	denied6 := trap(t, "[::1]:"+allowed.port())
	mixed := []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}
	resolver, _ := newResolver(t, func(string, int) []netip.Addr { return mixed })
	for range 5 {
		tr := transport(t, Options{Guard: newGuard(t, "127.0.0.1/32"), Resolver: resolver})
		if status, err := post(t, tr, "http://mixed.test:"+allowed.port()+"/"); err != nil || status != http.StatusOK {
			t.Errorf("%d, %v", status, err)
		}
	}
	if n := denied4.connections.Load() + denied6.connections.Load(); n != 0 {
		t.Errorf("%d connections to denied addresses", n)
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	proxy := serve(t, "127.0.0.1:0", nil)
	proxy.Start()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, proxy.URL)
	}
	server := serve(t, "127.0.0.1:0", nil)
	server.Start()
	// A name, because net/http's look at the environment makes an exception for loopback addresses.
	resolver, _ := newResolver(t, func(string, int) []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
	tr := transport(t, Options{Guard: newGuard(t, "127.0.0.0/8"), Resolver: resolver})
	if _, err := post(t, tr, "http://hooks.test:"+server.port()+"/"); err != nil {
		t.Fatal(err)
	}
	if proxy.connections.Load() != 0 || server.requests.Load() != 1 {
		t.Errorf("%d connections to the proxy, %d requests at the server", proxy.connections.Load(), server.requests.Load())
	}
}

func TestProxyStillChecksTheTarget(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	proxy := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Method + " " + r.RequestURI + " " + r.Header.Get("Proxy-Authorization"))
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	proxy.Start()
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("p", "w")
	resolver, _ := newResolver(t, func(name string, _ int) []netip.Addr {
		switch name {
		case "public.test.":
			return []netip.Addr{netip.MustParseAddr("8.8.8.8")}
		case "mixed.test.":
			return []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("10.0.0.1")}
		case "inside.test.":
			return []netip.Addr{netip.MustParseAddr("169.254.169.254")}
		}
		return nil
	})
	// The proxy is at a denied address: its hop is exempt, the target is not.
	tr := transport(t, Options{Guard: newGuard(t), Resolver: resolver, Proxy: address})
	if status, err := post(t, tr, "http://public.test/path"); err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v", status, err)
	}
	if got := seen.Load(); got != "POST http://public.test/path Basic cDp3" {
		t.Errorf("the proxy saw %q", got)
	}
	var (
		op      *net.OpError
		refusal *ProxyRefusal
	)
	if _, err := post(t, tr, "https://public.test/"); !errors.As(err, &op) || op.Op != "proxyconnect" ||
		!errors.As(err, &refusal) || refusal.Status != http.StatusForbidden {
		t.Errorf("refused by the proxy: %v", err)
	}
	if got, ok := seen.Load().(string); !ok || !strings.HasPrefix(got, "CONNECT public.test:443 ") {
		t.Errorf("the proxy saw %q", got)
	}
	before := proxy.requests.Load()
	for _, scheme := range []string{"http", "https"} {
		for _, host := range []string{"mixed.test", "inside.test", "127.0.0.1", "①②⑦.⓪.⓪.①", "[::ffff:7f00:1]", address.Host} {
			if _, err := post(t, tr, scheme+"://"+host+"/"); !IsDenied(err) {
				t.Errorf("%s://%s: %v", scheme, host, err)
			}
		}
		var dns *net.DNSError
		if _, err := post(t, tr, scheme+"://127.1/"); !errors.As(err, &dns) || !errors.Is(err, ErrProxiedName) {
			t.Errorf("%s: a name that does not resolve: %v", scheme, err)
		}
	}
	if n := proxy.requests.Load() - before; n != 0 {
		t.Errorf("%d requests reached the proxy", n)
	}
}
