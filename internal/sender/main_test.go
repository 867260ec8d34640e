package sender

import (
	"bytes"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output collects log lines.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) lines() []string {
	return strings.Split(strings.TrimSuffix(o.String(), "\n"), "\n")
}

func (o *output) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(o, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func guard(t testing.TB, allow string) *egress.Guard {
	t.Helper()
	var blocks []netip.Prefix
	if allow != "" {
		blocks = []netip.Prefix{netip.MustParsePrefix(allow)}
	}
	g, err := egress.NewGuard(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// loopback is a transport that may reach 127.0.0.0/8, and trusts the certificate of server if there
// is one.
func loopback(t testing.TB, server *httptest.Server) *http.Transport {
	t.Helper()
	options := egress.Options{Guard: guard(t, "127.0.0.0/8")}
	if server != nil && server.Certificate() != nil {
		options.RootCAs = x509.NewCertPool()
		options.RootCAs.AddCert(server.Certificate())
	}
	return pooled(t, options)
}

// pooled is a pool's transport without a client certificate.
func pooled(t testing.TB, options egress.Options) *http.Transport {
	t.Helper()
	pool, err := egress.NewPool(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseIdleConnections)
	return pool.Transport(nil).(*http.Transport)
}

func newSender(t testing.TB, change func(*Options)) *Sender {
	t.Helper()
	options := Options{Version: "1.2.3", Timeout: 10 * time.Second}
	if change != nil {
		change(&options)
	}
	if options.Transport == nil {
		options.Transport = loopback(t, nil)
	}
	s, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func ruleFor(url string) *rule.Rule {
	return &rule.Rule{
		Row: rule.Row{ID: 7, URL: url, Enabled: true}, Kind: delivery.KindWebhook, EventType: "a.b.c.v1",
		Target: "http://target.test", Format: delivery.FormatJSON,
	}
}

func sample(body string) *delivery.Delivery {
	return &delivery.Delivery{
		ID: delivery.ID{1, 2, 3}, Kind: delivery.KindWebhook, RuleID: 7, EventType: "a.b.c.v1", Format: delivery.FormatJSON, Body: []byte(body),
	}
}

// raw serves each connection with handle, which closes it by returning. Connections still open at
// the end of the test are closed.
func raw(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + listener.Addr().String()
}
