package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/net/idna"
)

// Defaults of Options.
const (
	DefaultConcurrency      = 1024
	DefaultDialTimeout      = 5 * time.Second
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultIdleTimeout      = 30 * time.Second
	DefaultMaxHeaderBytes   = 64 << 10
)

// ProxySetting is the name of the setting with the proxy.
const ProxySetting = "WEBHOOK_DISPATCHER_PROXY"

// ErrProxiedName is wrapped by the error of a proxied request whose target's name does not resolve here.
var ErrProxiedName = errors.New("resolve the target of a proxied request")

// ProxyRefusal says that the proxy did not connect to a target: it answered CONNECT with another status than 200. It comes inside a
// *net.OpError with the Op proxyconnect, as everything that net/http says of the way to a proxy. Nothing of the proxy's words is kept.
type ProxyRefusal struct {
	// Status is what it answered.
	Status int
}

// Error names the status.
func (e *ProxyRefusal) Error() string { return fmt.Sprintf("the proxy answered %d", e.Status) }

const (
	pingAfter   = 15 * time.Second // an HTTP/2 connection that has been silent for so long is probed
	pingTimeout = 5 * time.Second
	// windowBytes is the receive window of an HTTP/2 stream. It is what a server can make this process buffer beyond
	// what a caller reads; the default of net/http is 4 MiB for each stream.
	windowBytes = 64 << 10
	// connWindowBytes is the same for all streams of one connection; 64 KiB is the least that HTTP/2 has.
	connWindowBytes = 1 << 20
)

// Options of NewTransport. The zero value of each but Guard means its default.
type Options struct {
	// Guard decides which addresses are dialled. Required: a transport without one would reach everything.
	Guard *Guard
	// Concurrency is how many requests are in flight at most; as many idle connections are kept, so that no
	// connection is closed at the end of a burst only to be opened again for the next.
	Concurrency int
	// DialTimeout bounds a connect, name resolution included. It also ends a dial whose request has given up: net/http goes on
	// with it in the hope of the next request.
	DialTimeout time.Duration
	// HandshakeTimeout bounds the TLS handshake.
	HandshakeTimeout time.Duration
	// IdleTimeout is how long an unused connection is kept. Below what common servers and load balancers use (60 s and more),
	// so that it is this side that closes: a POST on a connection that the server has just closed is a failed attempt.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds the header of a response, all 1xx responses before it included.
	MaxHeaderBytes int64
	// RootCAs are the authorities that are trusted; nil means the system's.
	RootCAs *x509.CertPool
	// Proxy is an HTTP proxy for all requests (scheme http or https). Nil means none: the environment is not looked at.
	//
	// The proxy itself may be at any address. The target is still checked: its name is resolved here, and the request is
	// refused when any of its addresses is denied, or when it does not resolve. What remains is that the proxy resolves the
	// name again (also with CONNECT), so a name whose answers change between the two look-ups is decided by the proxy's own
	// rules. Where that matters, the proxy has to be one that guards by itself.
	Proxy *url.URL
	// Resolver resolves names; nil means net.DefaultResolver.
	Resolver *net.Resolver
}

func (o *Options) setDefaults() error {
	if o.Guard == nil {
		return errors.New("egress transport: Guard is nil")
	}
	// Negative limits would mean "none" to net/http, and a negative timeout a dial that fails at once.
	if o.Concurrency < 0 || o.DialTimeout < 0 || o.HandshakeTimeout < 0 || o.IdleTimeout < 0 || o.MaxHeaderBytes < 0 {
		return errors.New("egress transport: a limit is negative")
	}
	if o.Proxy != nil {
		// net/http would speak SOCKS to other schemes, which nothing here accounts for.
		if (o.Proxy.Scheme != "http" && o.Proxy.Scheme != "https") || o.Proxy.Hostname() == "" {
			return fmt.Errorf("egress transport: proxy %s://%s: want http://host:port or https://host:port", o.Proxy.Scheme, o.Proxy.Host)
		}
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = DefaultDialTimeout
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	if o.MaxHeaderBytes == 0 {
		o.MaxHeaderBytes = DefaultMaxHeaderBytes
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	return nil
}

// NewTransport returns a transport that dials only what the guard allows and decompresses nothing. The caller owns it and
// calls CloseIdleConnections at the end.
func NewTransport(options Options) (*http.Transport, error) {
	if err := options.setDefaults(); err != nil {
		return nil, err
	}
	return options.transport(), nil
}

// transport makes a transport of options that have been checked.
func (o *Options) transport() *http.Transport {
	d := &dialer{guard: o.Guard, resolver: o.Resolver}
	d.net = net.Dialer{Timeout: o.DialTimeout, Resolver: o.Resolver}
	if o.Proxy == nil {
		// With a proxy every dial goes to the proxy, so that there is nothing to guard here; see checkTarget.
		d.net.ControlContext = o.Guard.control
	}
	transport := &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    o.HandshakeTimeout,
		DisableCompression:     true, // else a small answer may unpack to a huge one
		MaxIdleConns:           o.Concurrency,
		MaxIdleConnsPerHost:    o.Concurrency, // several rules may share a host
		IdleConnTimeout:        o.IdleTimeout,
		MaxResponseHeaderBytes: o.MaxHeaderBytes,
		ForceAttemptHTTP2:      true, // net/http does not try it by itself with a dialer of ours
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
				// net/http would make an untyped error of the proxy's own words.
				return &net.OpError{Op: "proxyconnect", Net: "tcp", Err: &ProxyRefusal{Status: answer.StatusCode}}
			}
			return nil
		}
	}
	return transport
}

type dialer struct {
	guard    *Guard
	resolver *net.Resolver
	net      net.Dialer
}

// DialContext dials as net.Dialer does. A denial comes back bare, because *net.OpError would add the address.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.net.DialContext(ctx, network, address)
	if err == nil {
		return conn, nil
	}
	if IsDenied(err) {
		host, _, splitErr := net.SplitHostPort(address)
		if splitErr != nil {
			host = ""
		}
		return nil, &DeniedError{Host: host}
	}
	return nil, err
}

// checkTarget refuses a host that is, or resolves to, a denied address. One denied address among allowed ones is enough: which
// of them the proxy takes is not known here.
func (d *dialer) checkTarget(ctx context.Context, host string) error {
	addrs := make([]netip.Addr, 0, 1)
	if addr, ok := literal(host); ok {
		addrs = append(addrs, addr)
	} else {
		name, err := idna.Lookup.ToASCII(host)
		if err != nil {
			name = host
		}
		ctx, cancel := context.WithTimeout(ctx, d.net.Timeout)
		defer cancel()
		if addrs, err = d.resolver.LookupNetIP(ctx, "ip", name); err != nil {
			return fmt.Errorf("%w: %w", ErrProxiedName, err)
		}
	}
	if len(addrs) == 0 {
		return &DeniedError{Host: host}
	}
	for _, addr := range addrs {
		if !d.guard.Allowed(addr) {
			return &DeniedError{Host: host}
		}
	}
	return nil
}
