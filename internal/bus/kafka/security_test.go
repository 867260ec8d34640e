package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// ownCA returns a server's configuration with a certificate for 127.0.0.1, and a client's that
// trusts its issuer.
func ownCA(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	sign := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	now := time.Now()
	caKey, key := newKey(), newKey()
	caTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "own CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca := sign(caTemplate, caTemplate, caKey, caKey)
	cert := sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "broker"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, key, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

func TestSecurity(t *testing.T) {
	t.Parallel()
	server, client := ownCA(t)
	for _, tt := range []struct {
		name      string
		mechanism string
		tls       bool
	}{
		{"TLS", "", true},
		{"PLAIN over TLS", "PLAIN", true},
		{"SCRAM-SHA-256", "scram-sha-256", false},
		{"SCRAM-SHA-512 over TLS", "SCRAM-SHA-512", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := topics("dev-a")
			if tt.tls {
				o.TLS, o.ClientTLS = server, client
			}
			if tt.mechanism != "" {
				o.SASL = []fakes.Credential{{Mechanism: strings.ToUpper(tt.mechanism), User: "ada", Password: "s3cret"}}
			}
			b := newBench(t, o)
			b.publish("dev-a", 0, "1")
			secure := func(o *Options) {
				if tt.tls {
					o.TLS = client
				}
				if tt.mechanism != "" {
					o.SASL = &SASL{Mechanism: tt.mechanism, Username: "ada", Password: "s3cret"}
				}
			}
			h := newHandler()
			c := b.consume(h, secure)
			h.waitFor(t, 1)
			b.wantCommitted("dev-a", 0, 1)
			c.stop()
			if tt.mechanism == "" {
				return
			}
			c = b.consume(newHandler(), func(o *Options) {
				secure(o)
				o.SASL.Password = "wr0ng-canary"
			})
			b.eventually("refused", func() bool { return c.Ready() != nil && strings.Contains(c.Ready().Error(), "ask 127.0.0.1") })
			if err := c.Ready(); strings.Contains(err.Error(), "canary") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
	t.Run("unknown CA", func(t *testing.T) {
		t.Parallel()
		o := topics("dev-a")
		o.TLS, o.ClientTLS = server, client
		b := newBench(t, o)
		c := b.consume(newHandler(), func(o *Options) { o.TLS = &tls.Config{} })
		b.eventually("refused", func() bool { return c.Ready() != nil && strings.Contains(c.Ready().Error(), "certificate") })
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	good := func() Options {
		return Options{
			Source:  Source{Brokers: []string{"k:9092"}, Topics: []string{"a"}},
			GroupID: "g", TopicState: &memory{}, Handler: newHandler(),
		}
	}
	for want, change := range map[string]func(*Options){
		"":                    func(*Options) {},
		"no broker":           func(o *Options) { o.Brokers = nil },
		"no topic":            func(o *Options) { o.Topics = nil },
		"no consumer group":   func(o *Options) { o.GroupID = "" },
		`"middle" is neither`: func(o *Options) { o.StartOffset = "middle" },
		"no topic memory":     func(o *Options) { o.TopicState = nil },
		"no handler":          func(o *Options) { o.Handler = nil },
		"window -1":           func(o *Options) { o.MaxInFlight = -1 },
		"session timeout 3s":  func(o *Options) { o.SessionTimeout = 3 * time.Second },
		"commit interval -1s": func(o *Options) { o.CommitInterval = -time.Second },
		`"GSSAPI" is none of`: func(o *Options) { o.SASL = &SASL{"GSSAPI", "u", "p"} },
		"needs a username":    func(o *Options) { o.SASL = &SASL{"PLAIN", "", "p"} },
	} {
		o := good()
		change(&o)
		_, err := New(o)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q, have %v", want, err)
		}
	}
	o := good()
	o.SASL = &SASL{"SCRAM-SHA-256", "u", "canary\x07"}
	if _, err := New(o); err != nil && strings.Contains(err.Error(), "canary") {
		t.Errorf("the password is in %v", err)
	}
	// Run a second time.
	c, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	if c.Ready() == nil {
		t.Error("ready before the first answer")
	}
}
