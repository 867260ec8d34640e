package egress

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"golang.org/x/net/idna"
)

// ProxySetting is the name of the setting for the proxy.
const ProxySetting = "WEBHOOK_DISPATCHER_PROXY"

// ErrProxiedName is wrapped by the error of a proxied request if the target's name does not
// resolve.
var ErrProxiedName = errors.New("resolve the target of a proxied request")

// ProxyRefusal says that the proxy answered CONNECT with a status other than 200. It is wrapped in
// a *net.OpError with the Op proxyconnect, like all errors of net/http about a proxy, and holds
// nothing of the proxy's text.
type ProxyRefusal struct {
	Status int // the proxy's answer
}

// Error names the status.
func (e *ProxyRefusal) Error() string { return fmt.Sprintf("the proxy answered %d", e.Status) }

const (
	// dialTimeout bounds a connect, name resolution included. It also ends a dial that net/http
	// continues for the next request after its own has given up.
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	// idleTimeout is how long an unused connection is kept. It is below that of common servers and
	// load balancers (60 s and more): a POST on a connection that the server is just closing is a
	// failed attempt.
	idleTimeout = 30 * time.Second
	// maxHeaderBytes bounds the header of a response, including all 1xx responses before it.
	maxHeaderBytes = 64 << 10

	pingAfter   = 15 * time.Second // how long an HTTP/2 connection may be silent before it is probed
	pingTimeout = 5 * time.Second
	// windowBytes is the receive window of an HTTP/2 stream: the most that a server can make this
	// process buffer. The default of net/http is 4 MiB.
	windowBytes = 64 << 10
	// connWindowBytes is the same for all streams of a connection; HTTP/2's minimum is 64 KiB.
	connWindowBytes = 1 << 20
)

// Options of NewPool. The zero value of each, except Guard, means its default.
type Options struct {
	Guard *Guard // decides which addresses are dialled; required
	// Concurrency is the maximum number of requests in flight; 1024 by default. As many idle
	// connections are kept, so that those of one burst serve the next.
	Concurrency int
	// Proxy is an HTTP proxy (scheme http or https) for all requests, at any address. Nil means
	// none; the environment is ignored.
	//
	// The target's name is resolved here, and the request is refused if it does not resolve or if
	// any of its addresses is denied. But the proxy resolves the name again (also with CONNECT),
	// and only its own rules guard against answers that change in between.
	Proxy *url.URL

	RootCAs  *x509.CertPool // the trusted authorities; nil means the system's
	Resolver *net.Resolver  // resolves names; nil means net.DefaultResolver
}

func (o *Options) setDefaults() error {
	if o.Guard == nil {
		return errors.New("egress: Guard is nil")
	}
	if o.Concurrency < 0 { // net/http would take it for "no limit"
		return errors.New("egress: Concurrency is negative")
	}
	// net/http also accepts SOCKS, which is not supported here.
	if p := o.Proxy; p != nil && (p.Scheme != "http" && p.Scheme != "https" || p.Hostname() == "") {
		return fmt.Errorf("egress: proxy %s://%s: want http://host:port or https://host:port", p.Scheme, p.Host)
	}
	o.Concurrency, o.Resolver = cmp.Or(o.Concurrency, 1024), cmp.Or(o.Resolver, net.DefaultResolver)
	return nil
}

// transport returns a transport that dials only what the guard allows and decompresses nothing. It
// requires setDefaults to have been called.
func (o *Options) transport() *http.Transport {
	d := &dialer{guard: o.Guard, net: net.Dialer{Timeout: dialTimeout, Resolver: o.Resolver}}
	if o.Proxy == nil {
		// With a proxy, every dial goes to the proxy; checkTarget guards the target.
		d.net.ControlContext = o.Guard.control
	}
	transport := &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true, // a small answer could decompress to a huge one
		MaxIdleConns:           o.Concurrency,
		MaxIdleConnsPerHost:    o.Concurrency, // several rules may share a host
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ForceAttemptHTTP2:      true, // off by default with a custom dialer
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              pingAfter,
			MaxReceiveBufferPerStream:     windowBytes,
			MaxReceiveBufferPerConnection: connWindowBytes,
		},
	}
	if o.Proxy != nil {
		proxy := *o.Proxy
		transport.Proxy = func(req *http.Request) (*url.URL, error) {
			if err := d.checkTarget(req.Context(), req.URL.Hostname()); err != nil {
				return nil, err
			}
			return &proxy, nil
		}
		transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				// net/http would return an untyped error with the proxy's text.
				return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: &ProxyRefusal{Status: answer.StatusCode}}
			}
			return nil
		}
	}
	return transport
}

type dialer struct {
	guard *Guard
	net   net.Dialer
}

// DialContext is net.Dialer's, but returns a denial unwrapped: *net.OpError would add the address.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.net.DialContext(ctx, network, address)
	if err == nil {
		return conn, nil
	}
	if IsDenied(err) {
		host, _, _ := net.SplitHostPort(address) // empty on error
		return nil, &DeniedError{Host: host}
	}
	return nil, err
}

// checkTarget refuses a host that is, or resolves to, a denied address. One denied address is
// enough, as the proxy may choose any of them.
func (d *dialer) checkTarget(ctx context.Context, host string) error {
	var addrs []netip.Addr
	if addr, ok := literal(host); ok {
		addrs = []netip.Addr{addr}
	} else {
		name, err := idna.Lookup.ToASCII(host)
		if err != nil {
			name = host
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if addrs, err = d.net.Resolver.LookupNetIP(ctx, "ip", name); err != nil {
			return fmt.Errorf("%w: %w", ErrProxiedName, err)
		}
	}
	if len(addrs) == 0 || slices.ContainsFunc(addrs, func(addr netip.Addr) bool { return !d.guard.Allowed(addr) }) {
		return &DeniedError{Host: host}
	}
	return nil
}
