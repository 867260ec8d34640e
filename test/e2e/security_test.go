//go:build e2e

package e2e

import (
	"crypto/subtle"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// The secured listeners of the broker, as offsets from its port.
const saslTLS, tlsOnly, saslPlain = 2, 3, 4

// TestSecuredKafka consumes from each of the broker's secured listeners.
func TestSecuredKafka(t *testing.T) {
	t.Parallel()
	kafka := harness.SharedKafka(t)
	ca := "WEBHOOK_DISPATCHER_KAFKA_CA_FILE=" + filepath.Join(kafka.Dir, "tls", "ca.pem")
	credentials := []string{"EVENT_BUS_KAFKA_API_KEY=dispatcher", "EVENT_BUS_KAFKA_API_SECRET=dispatcher-secret"}
	mechanism := func(name string) string { return "WEBHOOK_DISPATCHER_KAFKA_SASL_MECHANISM=" + name }
	for name, c := range map[string]struct {
		port     int
		settings []string
	}{
		"TLS":                    {tlsOnly, []string{ca}},
		"SASL PLAIN over TLS":    {saslTLS, append([]string{ca}, credentials...)},
		"SCRAM-SHA-256 over TLS": {saslTLS, append([]string{ca, mechanism("scram-sha-256")}, credentials...)},
		"SCRAM-SHA-512 over TLS": {saslTLS, append([]string{ca, mechanism("scram-sha-512")}, credentials...)},
		"SCRAM-SHA-512":          {saslPlain, append([]string{"WEBHOOK_DISPATCHER_KAFKA_TLS=off", mechanism("scram-sha-512")}, credentials...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.NewSite(t)
			s.Rule("hook")
			s.Producer.CreateTopic(harness.Registrations, 1)
			ids := s.Producer.Publish(harness.Registrations, 1, 1, 20)
			d := s.Serve(append(c.settings, "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="+kafka.AddressAt(c.port))...)
			s.Delivers("hook", ids, 20*time.Second)
			s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
			d.Terminate()
		})
	}
}

// TestRefusedByKafka has wrong connection settings. The daemon keeps trying and reads nothing;
// /readyz and the log say why without showing a secret.
func TestRefusedByKafka(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 1)
	ca := "WEBHOOK_DISPATCHER_KAFKA_CA_FILE=" + filepath.Join(s.Kafka.Dir, "tls", "ca.pem")
	const secret = "canary-secret-77aa"
	for name, c := range map[string]struct {
		port     int
		settings []string
		says     string
	}{
		"wrong password": {saslTLS, []string{ca, "EVENT_BUS_KAFKA_API_KEY=dispatcher", "EVENT_BUS_KAFKA_API_SECRET=" + secret}, "authentication"},
		"unknown CA":     {tlsOnly, []string{"WEBHOOK_DISPATCHER_KAFKA_TLS=on"}, "certificate"},
		"no credentials": {saslPlain, nil, "sasl"},
		"no TLS":         {tlsOnly, nil, "tls"},
	} {
		d := s.Launch(append(c.settings, "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="+s.Kafka.AddressAt(c.port))...)
		t.Logf("%s: %s", name, d.WaitNotReady("kafka", c.says, 30*time.Second))
		d.Terminate()
		if strings.Contains(d.Log.String(), secret) {
			t.Errorf("%s: the log holds the password", name)
		}
	}
}

// TestRegistryBehindAProxy puts the registry behind a proxy with another path and basic
// authentication, which is down at first. The partition waits, and nothing becomes undecodable.
func TestRegistryBehindAProxy(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	target, err := url.Parse(s.Registry)
	if err != nil {
		t.Fatal(err)
	}
	const user, password = "registry-user", "canary-secret-91bc"
	var away atomic.Int32
	var refused, served atomic.Int32
	// A proxy that does not know the path yet; this does not prove that the schema is unknown.
	away.Store(http.StatusNotFound)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.URL.Path = target.Path + strings.TrimPrefix(r.In.URL.Path, "/some/path")
		r.Out.Header.Del("Authorization")
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, secret, _ := r.BasicAuth()
		switch {
		case name != user || subtle.ConstantTimeCompare([]byte(secret), []byte(password)) == 0:
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		case away.Load() != 0:
			w.WriteHeader(int(away.Load()))
		case !strings.HasPrefix(r.URL.Path, "/some/path/"):
			w.WriteHeader(http.StatusNotFound)
		default:
			served.Add(1)
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	s.Rule("hook")
	s.Producer.CreateTopic(harness.Registrations, 2)
	ids := s.Producer.Publish(harness.Registrations, 2, 1, 50)
	behind := "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + front.URL + "/some/path/"

	wrong := s.Launch(behind, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_KEY="+user, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_SECRET=wrong")
	waits := func(d *harness.Daemon, status string) {
		t.Helper()
		if text := d.WaitNotReady("registry", status, 30*time.Second); !strings.Contains(text, front.URL) {
			t.Errorf("/readyz does not name the registry: %s", text)
		}
	}
	waits(wrong, "401")
	wrong.Terminate()

	d := s.Launch(behind, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_KEY="+user, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_SECRET="+password)
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusInternalServerError} {
		away.Store(int32(status))
		waits(d, strconv.Itoa(status))
	}
	if n := s.Count("hook") + s.MustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"); n != 0 {
		t.Errorf("%d events were delivered or given up without a schema", n)
	}
	at, err := s.Producer.Committed(harness.Registrations)
	if err != nil || at[0]+at[1] != 0 {
		t.Errorf("committed without a schema: %v %v", at, err)
	}
	away.Store(0)
	took := s.Delivers("hook", ids, 30*time.Second)
	d.WaitReady(10 * time.Second)
	away.Store(http.StatusServiceUnavailable) // a known schema is not requested again
	ids = append(ids, s.Producer.Publish(harness.Registrations, 2, 51, 60)...)
	s.Delivers("hook", ids, 10*time.Second)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	d.Terminate()
	for _, daemon := range []*harness.Daemon{wrong, d} {
		if strings.Contains(daemon.Log.String(), password) {
			t.Error("the log holds the registry's password")
		}
	}
	harness.Figure(t, "%d requests were refused, %d served; deliveries began %s after the registry was back",
		refused.Load(), served.Load(), took)
}

// TestAddressesThatAreNotAllowed does not allow this machine's addresses: nothing may be sent to
// them.
func TestAddressesThatAreNotAllowed(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Producer.CreateTopic(harness.Registrations, 1)
	literal := s.Rule("hook")
	named := s.Run("rules", "rules", "add", "--event", harness.RegistrationRule, "--url",
		strings.Replace(s.URL("hook"), "127.0.0.1", "localhost", 1))
	d := s.Serve("WEBHOOK_DISPATCHER_EGRESS_ALLOW=")
	s.Producer.Publish(harness.Registrations, 1, 1, 1)
	harness.Eventually(t, 20*time.Second, "the literal address", func() error {
		return harness.Want("row", s.Row(literal), harness.Row{State: "dead", Attempts: 1, Reason: "egress_denied"})
	})
	// It is retried, since DNS may be wrong for a moment.
	harness.Eventually(t, 20*time.Second, "the name", func() error {
		return harness.Want("row", s.Row(named), harness.Row{State: "pending", Attempts: 1, Reason: "egress_denied"})
	})
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	if n := s.Count("hook"); n != 0 {
		t.Errorf("%d requests were sent to an address that is not allowed", n)
	}
	if !strings.Contains(d.Log.String(), "EGRESS_ALLOW") {
		t.Error("the log does not name the setting")
	}
	d.Terminate()
}
