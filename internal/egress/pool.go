package egress

import (
	"crypto/sha256"
	"crypto/tls"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// maxCertificates bounds the transports with a client certificate. If more certificates are in
	// use, some lose their idle connections now and then.
	maxCertificates = 256
	// certificateIdle is how long an unused transport is kept.
	certificateIdle = 10 * time.Minute
	// idleCertified bounds the idle connections of one: an endpoint has as many requests in flight.
	idleCertified = 64
)

// Pool holds the transports of a process: one for requests without a client certificate, and one
// for each certificate, because a connection is authenticated with it. All have the same guard,
// proxy and limits. A Pool is safe for concurrent use and has no goroutine.
type Pool struct {
	options Options
	plain   *http.Transport

	mu        sync.Mutex
	certified map[fingerprint]*certified // guarded by mu
}

// fingerprint is the SHA-256 of a certificate and its chain.
type fingerprint [sha256.Size]byte

type certified struct {
	transport *http.Transport
	used      time.Time   // guarded by the pool's mu
	idle      *time.Timer // drops the transport
}

// NewPool returns a pool. The caller calls CloseIdleConnections at the end.
func NewPool(options Options) (*Pool, error) {
	if err := options.setDefaults(); err != nil {
		return nil, err
	}
	return &Pool{options: options, plain: options.transport(), certified: make(map[fingerprint]*certified)}, nil
}

// Transport returns the transport for a client certificate, or the plain one if it is nil. Call it
// for each request: a transport that the pool has dropped still works but loses its connections
// early. The certificate must not be changed.
func (p *Pool) Transport(certificate *tls.Certificate) http.RoundTripper {
	if certificate == nil {
		return p.plain
	}
	key := fingerprintOf(certificate)
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.certified[key]
	if c == nil {
		if len(p.certified) >= maxCertificates {
			p.drop(slices.MinFunc(slices.Collect(maps.Keys(p.certified)), func(a, b fingerprint) int {
				return p.certified[a].used.Compare(p.certified[b].used)
			}))
		}
		c = &certified{transport: p.options.certified(certificate)}
		c.idle = time.AfterFunc(certificateIdle, func() { p.dropIdle(key, c) })
		p.certified[key] = c
	}
	c.used = time.Now()
	c.idle.Reset(certificateIdle)
	return c.transport
}

// CloseIdleConnections closes idle connections. The pool stays usable.
func (p *Pool) CloseIdleConnections() {
	p.plain.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.certified {
		p.drop(key)
	}
}

// drop removes a transport. Its requests in flight continue, and their connections close after
// them. p.mu is held.
func (p *Pool) drop(key fingerprint) {
	c := p.certified[key]
	delete(p.certified, key)
	c.idle.Stop()
	c.transport.CloseIdleConnections()
}

func (p *Pool) dropIdle(key fingerprint, c *certified) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Transport or drop may have been called since the timer fired.
	if p.certified[key] == c && time.Since(c.used) >= certificateIdle {
		p.drop(key)
	}
}

// certified makes a transport that presents the certificate to servers that request one.
func (o *Options) certified(certificate *tls.Certificate) *http.Transport {
	t := o.transport()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = min(o.Concurrency, idleCertified), min(o.Concurrency, idleCertified)
	// With Certificates instead, crypto/tls would send none if the server does not list the issuer;
	// the server would then report a missing certificate instead of what is wrong with this one.
	t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	return t
}

func fingerprintOf(certificate *tls.Certificate) (sum fingerprint) {
	h := sha256.New()
	for _, der := range certificate.Certificate {
		h.Write(der)
	}
	h.Sum(sum[:0])
	return sum
}
