//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a certificate authority of a test, whose certificate is in a file.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(t.TempDir(), "ca.pem")}
	a.key, a.cert = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true})
	a.write(a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) issue(template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

func (a *authority) write(file, kind string, raw []byte) {
	a.t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// client writes a certificate of a client and its key into files.
func (a *authority) client(name string) (certFile, keyFile string) {
	a.t.Helper()
	key, cert := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	certFile, keyFile = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	a.write(certFile, "CERTIFICATE", cert.Raw)
	a.write(keyFile, "PRIVATE KEY", raw)
	return certFile, keyFile
}

// serve starts the site's receiver a second time, with TLS, for clients that have a certificate of the authority's.
func (a *authority) serve(s *site) string {
	a.t.Helper()
	key, cert := a.issue(&x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	server := httptest.NewUnstartedServer(s.receiver)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}
	server.EnableHTTP2 = true
	server.StartTLS()
	a.t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/" + secretPath + "/"
}

// TestClientCertificate has an endpoint that asks for a certificate: a rule that has one is served, beside one that has none and is not.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ca := newAuthority(t)
	s.settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + firstKey, "SSL_CERT_FILE=" + ca.file}
	base := ca.serve(s)
	cert, key := ca.client("dispatcher")
	add := func(hook string, flags ...string) string {
		return s.run("rules", append([]string{"rules", "add", "--event", registrationRule, "--url", base + hook}, flags...)...)
	}
	known := add("known", "--client-cert", cert, "--client-key", key)
	stranger := add("stranger")
	s.producer.create(registrations, 1)
	d := s.serve()
	s.delivers("known", s.producer.publish(registrations, 1, 1, 20), 20*time.Second)
	eventually(t, 20*time.Second, "the other rule's rows", func() error {
		return want("rows", s.rows("rule_id = ? AND reason = 'error'", stranger), 20)
	})
	if s.count("stranger") != 0 {
		t.Error("the endpoint took a request without a certificate")
	}
	if shown := s.run("rules", "rules", "show", known); !strings.Contains(shown, "CN=dispatcher") || strings.Contains(shown, "PRIVATE") {
		t.Errorf("rules show prints of the certificate:\n%s", shown)
	}
	d.terminate()
}

// TestOwnAuthorities has a registry and a database whose certificates are signed by an authority that only a setting names.
func TestOwnAuthorities(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	key, cert := ca.issue(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca.write(filepath.Join(dir, "cert.pem"), "CERTIFICATE", cert.Raw)
	ca.write(filepath.Join(dir, "key.pem"), "PRIVATE KEY", raw)
	mariadb := ownServer(t, "mariadb", "--ssl-ca="+ca.file, "--ssl-cert="+filepath.Join(dir, "cert.pem"),
		"--ssl-key="+filepath.Join(dir, "key.pem"))
	s := newSite(t, mariadb)
	target, err := url.Parse(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	registry := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	registry.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	}
	registry.StartTLS()
	t.Cleanup(registry.Close)
	s.rule("hook")
	s.producer.create(registrations, 1)
	if _, err := s.db.Exec("ALTER USER 'dispatcher_serve'@'%' REQUIRE SSL"); err != nil {
		t.Fatal(err)
	}
	atTLS := "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + registry.URL
	registryCA, mysqlCA := "WEBHOOK_DISPATCHER_SCHEMA_REGISTRY_CA_FILE="+ca.file, "WEBHOOK_DISPATCHER_MYSQL_CA_FILE="+ca.file
	ids := s.producer.publish(registrations, 1, 1, 3)
	other := newAuthority(t)
	for part, settings := range map[string][]string{
		"registry": {atTLS, mysqlCA},
		"database": {atTLS, registryCA, "WEBHOOK_DISPATCHER_MYSQL_CA_FILE=" + other.file},
	} {
		d := s.launch(settings...)
		t.Logf("%s: %s", part, d.waitTrouble(part, "certificate", 30*time.Second))
		d.terminate()
	}
	if s.count("hook") != 0 {
		t.Error("something was delivered by way of a server that nobody vouches for")
	}
	d := s.serve(atTLS, registryCA, mysqlCA)
	s.delivers("hook", ids, 20*time.Second)
	d.terminate()
}
