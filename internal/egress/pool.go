package egress

import (
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"sync"
	"time"
)

const (
	// maxCertificates is how many transports with a client certificate there are at most; with more certificates than these in use, some
	// lose their idle connections now and then.
	maxCertificates = 256
	// certificateIdle is how long one is kept without a request.
	certificateIdle = 10 * time.Minute
	// idleCertified is how many idle connections one keeps: as many as the endpoint of one rule has requests under way.
	idleCertified = 64
)

// Pool is the transports of a process: one for requests without a client certificate, and one for each certificate, because a connection
// belongs to whom it was opened as. All have the same guard, proxy and limits. It is safe for concurrent use, and holds no goroutine.
type Pool struct {
	options Options
	plain   *http.Transport

	mu        sync.Mutex
	certified map[fingerprint]*certified // guarded by mu
}

// fingerprint is the SHA-256 of a certificate and its chain. The key is not in it: a certificate has but one.
type fingerprint [sha256.Size]byte

type certified struct {
	transport *http.Transport
	used      time.Time   // guarded by the pool's mu
	idle      *time.Timer // ends the transport
}

// NewPool returns a pool. The caller owns it and calls CloseIdleConnections at the end.
func NewPool(options Options) (*Pool, error) {
	if err := options.setDefaults(); err != nil {
		return nil, err
	}
	return &Pool{options: options, plain: options.transport(), certified: make(map[fingerprint]*certified)}, nil
}

// Transport returns what sends requests with a client certificate, or without one where it is nil. It is to be asked for anew for each
// request: one that was given before still works, but its connections end early once it is dropped. The certificate must not be changed.
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
			p.drop(p.leastUsed())
		}
		c = &certified{transport: p.options.certified(certificate)}
		c.idle = time.AfterFunc(certificateIdle, func() { p.dropIdle(key, c) })
		p.certified[key] = c
	}
	c.used = time.Now()
	c.idle.Reset(certificateIdle)
	return c.transport
}

// CloseIdleConnections closes the connections that are not in use. The pool can be used on.
func (p *Pool) CloseIdleConnections() {
	p.plain.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.certified {
		p.drop(key)
	}
}

// drop forgets a transport. Requests under way on it end as they would, and their connections with them. The lock is held.
func (p *Pool) drop(key fingerprint) {
	c := p.certified[key]
	delete(p.certified, key)
	c.idle.Stop()
	c.transport.CloseIdleConnections()
}

func (p *Pool) dropIdle(key fingerprint, c *certified) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The timer may have fired just before somebody asked for the transport, or dropped it.
	if p.certified[key] == c && time.Since(c.used) >= certificateIdle {
		p.drop(key)
	}
}

// leastUsed returns whose last use is the longest ago. The lock is held.
func (p *Pool) leastUsed() (least fingerprint) {
	var used time.Time
	for key, c := range p.certified {
		if used.IsZero() || c.used.Before(used) {
			least, used = key, c.used
		}
	}
	return least
}

// certified makes a transport that shows the certificate to whoever asks for one.
func (o *Options) certified(certificate *tls.Certificate) *http.Transport {
	t := o.transport()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = min(o.Concurrency, idleCertified), min(o.Concurrency, idleCertified)
	// Not by Certificates: crypto/tls would show none where the server names authorities of which none has signed it, and the server
	// would then miss a certificate instead of saying what is wrong with this one.
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
