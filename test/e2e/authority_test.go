//go:build e2e

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestClientCertificate has an endpoint that requires a client certificate. It serves a rule that
// has one and refuses a rule that has none.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	ca := harness.NewAuthority(t)
	s.Settings = []string{"WEBHOOK_DISPATCHER_SECRETS_KEY=" + harness.FirstKey, "SSL_CERT_FILE=" + ca.File}
	base := ca.Serve(s)
	cert, key := ca.Client("dispatcher")
	add := func(hook string, flags ...string) string {
		return s.Run("rules", append([]string{"rules", "add", "--event", harness.RegistrationRule, "--url", base + hook}, flags...)...)
	}
	known := add("known", "--client-cert", cert, "--client-key", key)
	stranger := add("stranger")
	s.Producer.CreateTopic(harness.Registrations, 1)
	d := s.Serve()
	s.Delivers("known", s.Producer.Publish(harness.Registrations, 1, 1, 20), 20*time.Second)
	harness.Eventually(t, 20*time.Second, "the other rule's rows", func() error {
		return harness.Want("rows", s.Rows("rule_id = ? AND reason = 'error'", stranger), 20)
	})
	if s.Count("stranger") != 0 {
		t.Error("the endpoint took a request without a certificate")
	}
	if shown := s.Run("rules", "rules", "show", known); !strings.Contains(shown, "CN=dispatcher") || strings.Contains(shown, "PRIVATE") {
		t.Errorf("rules show prints of the certificate:\n%s", shown)
	}
	d.Terminate()
}

// TestOwnAuthorities has a registry and a database whose certificates come from an authority that
// only a setting names.
func TestOwnAuthorities(t *testing.T) {
	t.Parallel()
	ca := harness.NewAuthority(t)
	key, cert := ca.Issue(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca.Write(filepath.Join(dir, "cert.pem"), "CERTIFICATE", cert.Raw)
	ca.Write(filepath.Join(dir, "key.pem"), "PRIVATE KEY", raw)
	mariadb := harness.OwnServer(t, "mariadb", "--ssl-ca="+ca.File, "--ssl-cert="+filepath.Join(dir, "cert.pem"),
		"--ssl-key="+filepath.Join(dir, "key.pem"))
	s := harness.NewSite(t, mariadb)
	target, err := url.Parse(s.Registry)
	if err != nil {
		t.Fatal(err)
	}
	registry := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	registry.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	}
	registry.StartTLS()
	t.Cleanup(registry.Close)
	s.Rule("hook")
	s.Producer.CreateTopic(harness.Registrations, 1)
	if _, err := s.DB.Exec("ALTER USER 'dispatcher_serve'@'%' REQUIRE SSL"); err != nil {
		t.Fatal(err)
	}
	atTLS := "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + registry.URL
	registryCA, mysqlCA := "WEBHOOK_DISPATCHER_SCHEMA_REGISTRY_CA_FILE="+ca.File, "WEBHOOK_DISPATCHER_MYSQL_CA_FILE="+ca.File
	ids := s.Producer.Publish(harness.Registrations, 1, 1, 3)
	other := harness.NewAuthority(t)
	for part, settings := range map[string][]string{
		"registry": {atTLS, mysqlCA},
		"database": {atTLS, registryCA, "WEBHOOK_DISPATCHER_MYSQL_CA_FILE=" + other.File},
	} {
		d := s.Launch(settings...)
		t.Logf("%s: %s", part, d.WaitNotReady(part, "certificate", 30*time.Second))
		d.Terminate()
	}
	if s.Count("hook") != 0 {
		t.Error("something was delivered by way of a server that nobody vouches for")
	}
	d := s.Serve(atTLS, registryCA, mysqlCA)
	s.Delivers("hook", ids, 20*time.Second)
	d.Terminate()
}
