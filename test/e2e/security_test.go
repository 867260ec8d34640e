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
)

// The offsets of the broker's secured listeners from its port.
const saslTLS, tlsOnly, saslPlain = 2, 3, 4

// TestSecuredKafka reads through each of the broker's secured listeners.
func TestSecuredKafka(t *testing.T) {
	t.Parallel()
	kafka := sharedKafka(t)
	ca := "WEBHOOK_DISPATCHER_KAFKA_CA_FILE=" + filepath.Join(kafka.dir, "tls", "ca.pem")
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
			s := newSite(t)
			s.rule("hook")
			s.producer.create(registrations, 1)
			ids := s.producer.publish(registrations, 1, 1, 20)
			d := s.serve(append(c.settings, "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="+kafka.at(c.port))...)
			s.delivers("hook", ids, 20*time.Second)
			eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
			d.terminate()
		})
	}
}

// TestRefusedByKafka has something wrong in the settings of the connection each time: the daemon goes on trying, reads nothing, and
// /readyz and the log tell why without a secret.
func TestRefusedByKafka(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 1)
	ca := "WEBHOOK_DISPATCHER_KAFKA_CA_FILE=" + filepath.Join(s.kafka.dir, "tls", "ca.pem")
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
		d := s.launch(append(c.settings, "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="+s.kafka.at(c.port))...)
		t.Logf("%s: %s", name, d.waitTrouble("kafka", c.says, 30*time.Second))
		d.terminate()
		if strings.Contains(d.log.String(), secret) {
			t.Errorf("%s: the log holds the password", name)
		}
	}
}

// TestRegistryBehindAProxy puts a proxy before the registry that serves it under another path and asks for basic authentication, and
// that is away at first: the partition waits, and nothing becomes undecodable.
func TestRegistryBehindAProxy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	target, err := url.Parse(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	const user, password = "registry-user", "canary-secret-91bc"
	var away atomic.Int32
	var refused, served atomic.Int32
	away.Store(http.StatusNotFound) // as of a proxy that does not know the path yet: no proof that the schema is unknown
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
	s.rule("hook")
	s.producer.create(registrations, 2)
	ids := s.producer.publish(registrations, 2, 1, 50)
	behind := "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + front.URL + "/some/path/"

	wrong := s.launch(behind, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_KEY="+user, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_SECRET=wrong")
	waits := func(d *daemon, status string) {
		t.Helper()
		if text := d.waitTrouble("registry", status, 30*time.Second); !strings.Contains(text, front.URL) {
			t.Errorf("/readyz does not name the registry: %s", text)
		}
	}
	waits(wrong, "401")
	wrong.terminate()

	d := s.launch(behind, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_KEY="+user, "EVENT_BUS_KAFKA_SCHEMA_REGISTRY_API_SECRET="+password)
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusInternalServerError} {
		away.Store(int32(status))
		waits(d, strconv.Itoa(status))
	}
	if n := s.count("hook") + s.mustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"); n != 0 {
		t.Errorf("%d events were delivered or given up without a schema", n)
	}
	at, err := s.producer.committed(registrations)
	if err != nil || at[0]+at[1] != 0 {
		t.Errorf("committed without a schema: %v %v", at, err)
	}
	away.Store(0)
	took := s.delivers("hook", ids, 30*time.Second)
	d.waitReady(10 * time.Second)
	away.Store(http.StatusServiceUnavailable) // a schema that is known is not asked for again
	ids = append(ids, s.producer.publish(registrations, 2, 51, 60)...)
	s.delivers("hook", ids, 10*time.Second)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	d.terminate()
	for _, daemon := range []*daemon{wrong, d} {
		if strings.Contains(daemon.log.String(), password) {
			t.Error("the log holds the registry's password")
		}
	}
	figure(t, "%d requests were refused, %d served; deliveries began %s after the registry was back", refused.Load(), served.Load(), took)
}

// TestAddressesThatAreNotAllowed has no exception for this machine's addresses: nothing may be sent to them.
func TestAddressesThatAreNotAllowed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.producer.create(registrations, 1)
	literal := s.rule("hook")
	named := s.run("rules", "rules", "add", "--event", registrationRule, "--url", strings.Replace(s.url("hook"), "127.0.0.1", "localhost", 1))
	d := s.serve("WEBHOOK_DISPATCHER_EGRESS_ALLOW=")
	s.producer.publish(registrations, 1, 1, 1)
	eventually(t, 20*time.Second, "the literal address", func() error {
		return want("row", s.row(literal), row{state: "dead", attempts: 1, reason: "egress_denied"})
	})
	eventually(t, 20*time.Second, "the name", func() error { // DNS may be wrong for a moment
		return want("row", s.row(named), row{state: "pending", attempts: 1, reason: "egress_denied"})
	})
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	if n := s.count("hook"); n != 0 {
		t.Errorf("%d requests were sent to an address that is not allowed", n)
	}
	if !strings.Contains(d.log.String(), "EGRESS_ALLOW") {
		t.Error("the log does not name the setting")
	}
	d.terminate()
}
