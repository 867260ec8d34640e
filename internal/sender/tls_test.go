package sender

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// authority issues certificates.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	issued := a.issue(template)
	certificate, err := x509.ParseCertificate(issued.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	a.certificate = certificate
	return a
}

// issue completes a template and signs it; the first is the authority's own.
func (a *authority) issue(template *x509.Certificate) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent := a.certificate
	if parent == nil {
		parent, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) client(name string, until time.Time) *tls.Certificate {
	return a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) server(until time.Time) *tls.Certificate {
	return a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// mutual is a server that wants a client certificate of the authority, and answers with the name in
// it.
func mutual(t *testing.T, own *tls.Certificate, clients *authority, version uint16) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{*own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.pool(),
		MinVersion: version, MaxVersion: version,
	}
	server.Config.ErrorLog = discard()
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// A client certificate that is right, and all that can be wrong with one, with both versions of
// TLS.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	soon := time.Now().Add(time.Hour)
	serverCertificate := ours.server(soon)
	for version, protocol := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		server := mutual(t, serverCertificate, ours, protocol)
		pool, err := egress.NewPool(egress.Options{Guard: guard(t, "127.0.0.0/8"), RootCAs: ours.pool()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.CloseIdleConnections)
		for name, c := range map[string]struct {
			access *rule.Access
			detail string
		}{
			"right":              {&rule.Access{Certificate: ours.client("CANARY", soon)}, ""},
			"right, and a token": {&rule.Access{Certificate: ours.client("CANARY", soon), Authorization: "Bearer x"}, ""},
			"none":               {nil, "requires a client certificate"},
			"an empty access":    {&rule.Access{}, "requires a client certificate"},
			"expired":            {&rule.Access{Certificate: ours.client("CANARY", time.Now().Add(-time.Hour))}, "has expired or was revoked"},
			"another authority":  {&rule.Access{Certificate: others.client("CANARY", soon)}, "does not know who issued it"},
			"a server's":         {&rule.Access{Certificate: ours.server(soon)}, "a client certificate"},
		} {
			out := &output{}
			s := newSender(t, func(o *Options) {
				o.Transport, o.Certified, o.Logger = pool.Transport(nil), pool.Transport, out.logger()
			})
			a := s.Send(t.Context(), accessed(server.URL, c.access), sample("{}"), 1)
			if c.detail == "" {
				if !a.OK() || string(a.Response) != "CANARY" {
					t.Errorf("%s, %s: %+v", version, name, a)
				}
			} else if a.Class != delivery.ClassTLS || a.Final {
				t.Errorf("%s, %s: %+v", version, name, a)
			}
			if text := out.String(); !strings.Contains(text, c.detail) || strings.Contains(text, "CANARY") {
				t.Errorf("%s, %s: logged %s", version, name, text)
			}
		}
	}
}

// What is wrong with the endpoint's own certificate is found before the client's is shown.
func TestServerCertificates(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	soon := time.Now().Add(time.Hour)
	pool, err := egress.NewPool(egress.Options{Guard: guard(t, "127.0.0.0/8"), RootCAs: ours.pool()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseIdleConnections)
	for name, c := range map[string]struct {
		certificate *tls.Certificate
		host        string
		detail      string
	}{
		"expired":           {ours.server(time.Now().Add(-time.Hour)), "127.0.0.1", "has expired"},
		"another authority": {others.server(soon), "127.0.0.1", "unknown authority"},
		"another host":      {ours.server(soon), "localhost", "for another host"},
		"a client's":        {ours.client("x", soon), "127.0.0.1", "the certificate is"},
	} {
		server := mutual(t, c.certificate, ours, tls.VersionTLS13)
		out := &output{}
		s := newSender(t, func(o *Options) {
			o.Transport, o.Certified, o.Logger = pool.Transport(nil), pool.Transport, out.logger()
		})
		url := strings.Replace(server.URL, "127.0.0.1", c.host, 1)
		access := &rule.Access{Certificate: ours.client("x", soon), Authorization: "Bearer x"}
		if a := s.Send(t.Context(), accessed(url, access), sample("{}"), 1); a.Class != delivery.ClassTLS {
			t.Errorf("%s: %+v", name, a)
		}
		if text := out.String(); !strings.Contains(text, c.detail) {
			t.Errorf("%s: logged %s", name, text)
		}
	}
}

// The rule's certificate is for its endpoint: an authorization server that wants one is told apart
// from an endpoint that does, and so is one that speaks no TLS.
func TestTokenServerRefusesTLS(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t, "ours")
	soon := time.Now().Add(time.Hour)
	pool, err := egress.NewPool(egress.Options{Guard: guard(t, "127.0.0.0/8"), RootCAs: ours.pool()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseIdleConnections)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for server, detail := range map[string]string{
		mutual(t, ours.server(soon), ours, tls.VersionTLS12).URL:     "token calls have no client certificate",
		mutual(t, ours.server(soon), ours, tls.VersionTLS13).URL:     "token calls have no client certificate",
		strings.Replace(plain.URL, "http:", "https:", 1) + "/CANARY": "the authorization server speaks plain HTTP",
	} {
		s := newSender(t, func(o *Options) { o.Transport, o.Certified = pool.Transport(nil), pool.Transport })
		access := &rule.Access{
			Certificate: ours.client("x", soon), OAuth2: &rule.OAuth2{TokenURL: server, ClientID: "c", Secret: "s"},
		}
		a, err := s.Try(t.Context(), accessed("https://h.test/", access), sample("{}"))
		if err == nil || a.Class != delivery.ClassToken || !strings.Contains(err.Error(), detail) || strings.Contains(err.Error(), "endpoint") {
			t.Errorf("%s: %q, %v; want %s", server, a.Class, err, detail)
		}
	}
}

// Nothing is sent without the certificate that a rule has.
func TestNoPlaceForACertificate(t *testing.T) {
	t.Parallel()
	s := newSender(t, func(o *Options) { o.Transport = refuse{t} })
	a := s.Send(t.Context(), accessed("https://h.test/", &rule.Access{Certificate: &tls.Certificate{}}), sample("{}"), 1)
	if a.Class != delivery.ClassRequest || a.Final {
		t.Errorf("%+v", a)
	}
}
