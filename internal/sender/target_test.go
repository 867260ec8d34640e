package sender

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/egress"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

type signer func(h http.Header) error

func (f signer) Sign(h map[string][]string, id string, timestamp time.Time, body []byte) error {
	http.Header(h).Set("Webhook-Signature", fmt.Sprintf("%s.%d.%s", id, timestamp.Unix(), body))
	return f(h)
}

func TestSigner(t *testing.T) {
	t.Parallel()
	url, heads := record(t)
	at := time.Unix(1_700_000_000, 0)
	for name, c := range map[string]struct {
		change func(http.Header) error
		class  delivery.ErrorClass
	}{
		"good":           {func(http.Header) error { return nil }, ""},
		"fails":          {func(http.Header) error { return errors.New("CANARY") }, delivery.ClassRequest},
		"CR LF in value": {func(h http.Header) error { h.Set("X-A", "a\r\nX-B: CANARY"); return nil }, delivery.ClassRequest},
		"NUL in value":   {func(h http.Header) error { h.Set("X-A", "CANARY\x00"); return nil }, delivery.ClassRequest},
		"wrong name":     {func(h http.Header) error { h["X A: CANARY"] = []string{"b"}; return nil }, delivery.ClassRequest},
		"empty name":     {func(h http.Header) error { h[""] = []string{"CANARY"}; return nil }, delivery.ClassRequest},
	} {
		out := &output{}
		s := newSender(t, func(o *Options) {
			o.Signings, o.Logger, o.Now = []rule.Signing{{Signer: signer(c.change)}}, out.logger(), func() time.Time { return at }
		})
		a := s.Send(t.Context(), ruleFor(url), sample(`{"a":1}`), 1)
		if a.Class != c.class || a.Final != (c.class != "" && name != "fails") {
			t.Errorf("%s: %+v", name, a)
		}
		if strings.Contains(out.String(), "CANARY") {
			t.Errorf("%s: %s", name, out)
		}
		if c.class != "" {
			continue
		}
		want := "Webhook-Signature: " + sample("").ID.String() + `.1700000000.{"a":1}`
		if head := <-heads; !strings.Contains(head, want) {
			t.Errorf("%s: %s", name, head)
		}
	}
	if len(heads) != 0 {
		t.Error("a request with a wrong header was sent")
	}
}

func TestFinal(t *testing.T) {
	t.Parallel()
	out := &output{}
	s := newSender(t, func(o *Options) {
		o.Guard, o.Logger = guard(t, "10.0.0.0/8"), out.logger()
		o.Transport = refuse{t}
	})
	for url, want := range map[string]delivery.ErrorClass{
		"ftp://h/":                    delivery.ClassRequest,
		"file:///etc/passwd":          delivery.ClassRequest,
		"gopher://h/":                 delivery.ClassRequest,
		"javascript:alert(1)":         delivery.ClassRequest,
		"h/path":                      delivery.ClassRequest,
		"//h/path":                    delivery.ClassRequest,
		"/path":                       delivery.ClassRequest,
		"":                            delivery.ClassRequest,
		"http:h":                      delivery.ClassRequest,
		"http://":                     delivery.ClassRequest,
		"http://:80/":                 delivery.ClassRequest,
		"http://h:0/":                 delivery.ClassRequest,
		"http://h:65536/":             delivery.ClassRequest,
		"http://h:port/":              delivery.ClassRequest,
		"http://h/\r\nX: y":           delivery.ClassRequest,
		"http://h/\x00":               delivery.ClassRequest,
		"http://h\r\nX: y/":           delivery.ClassRequest,
		"http://a%0d%0ab/":            delivery.ClassRequest,
		"http://a b/":                 delivery.ClassRequest,
		"http://evil\\@127.0.0.1/":    delivery.ClassRequest,
		"http://[::1/":                delivery.ClassRequest,
		"http://127.0.0.1/":           delivery.ClassEgress,
		"http://ok@127.0.0.1/":        delivery.ClassEgress,
		"https://[::ffff:7f00:1]:80/": delivery.ClassEgress,
		"http://[fe80::1%25eth0]/":    delivery.ClassEgress,
		"http://169.254.169.254/x":    delivery.ClassEgress,
		"http://①②⑦.⓪.⓪.①/":           delivery.ClassEgress,
	} {
		if a := s.Send(t.Context(), ruleFor(url), sample("{}"), 1); a.Class != want || a.Status != 0 || !a.Final {
			t.Errorf("%q: %+v", url, a)
		}
	}
	if !strings.Contains(out.String(), egress.Setting) {
		t.Errorf("the log does not name %s: %s", egress.Setting, out)
	}
	s = newSender(t, func(o *Options) {
		o.Guard, o.Transport = guard(t, "10.0.0.0/8"), roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, &egress.DeniedError{}
		})
	})
	for _, url := range []string{"http://10.1.2.3/", "https://example.org", "http://localhost:8080/x", "HTTP://8.8.8.8"} {
		if a := s.Send(t.Context(), ruleFor(url), sample("{}"), 1); a.Class != delivery.ClassEgress || a.Final {
			t.Errorf("%q: %+v", url, a)
		}
	}
}

// First tries, retries, token calls and requests with a client certificate go past the same guard,
// on the address that is dialled.
func TestEveryPathIsGuarded(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	inside := raw(t, func(net.Conn) { reached.Add(1) })
	pool, err := egress.NewPool(egress.Options{Guard: guard(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.CloseIdleConnections)
	// No Guard: what is literal is left to the dial, too.
	s := newSender(t, func(o *Options) { o.Transport, o.Certified = pool.Transport(nil), pool.Transport })
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		url := strings.Replace(inside, "127.0.0.1", host, 1)
		secure := strings.Replace(url, "http:", "https:", 1)
		for name, r := range map[string]*rule.Rule{
			"plain":             ruleFor(url),
			"TLS":               ruleFor(secure),
			"token call":        accessed("http://h.test/", &rule.Access{OAuth2: &rule.OAuth2{TokenURL: url}}),
			"token call by TLS": accessed("http://h.test/", &rule.Access{OAuth2: &rule.OAuth2{TokenURL: secure}}),
			"certificate":       accessed(secure, &rule.Access{Certificate: &tls.Certificate{}}),
		} {
			for number := 1; number <= 2; number++ {
				if a := s.Send(t.Context(), r, sample("{}"), number); a.Class != delivery.ClassEgress || len(a.Response) != 0 || a.Status != 0 {
					t.Errorf("%s at %s, attempt %d: %+v", name, host, number, a)
				}
			}
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

type refuse struct{ t *testing.T }

func (r refuse) RoundTrip(req *http.Request) (*http.Response, error) {
	r.t.Errorf("a request to %s was made", req.URL)
	return nil, errors.New("refused")
}

// One sender serves all lanes at once; this is for the race detector.
func TestConcurrentSends(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.HasPrefix(r.URL.Path, "/fail") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	s := newSender(t, func(o *Options) { o.Logger = (&output{}).logger() })
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for n := range 20 {
				path := "/ok"
				if (i+n)%3 == 0 {
					path = "/fail"
				}
				r, body := ruleFor(fmt.Sprintf("%s%s/%d", server.URL, path, i)), fmt.Sprintf("%d of %d", n, i)
				r.ID = int32(i % 5)
				if a := s.Send(t.Context(), r, sample(body), n+1); a.OK() != (path == "/ok") || string(a.Response) != body {
					t.Errorf("%+v, want the answer %q", a, body)
				}
			}
		})
	}
	wg.Wait()
}

func TestTargetsAreBounded(t *testing.T) {
	t.Parallel()
	var c targets
	for i := range maxTargets + 10 {
		c.get(fmt.Sprintf("http://h/%d", i), nil)
	}
	if n := len(c.byURL); n > maxTargets {
		t.Errorf("%d entries", n)
	}
}

func FuzzTarget(f *testing.F) {
	for _, url := range []string{"http://u:p@h:80/a b?c d#e", "https://[::1]:443", "http://h/%zz", "http:h", "http://h?\x7f"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		target := newTarget(raw, nil)
		if target.err != nil {
			return
		}
		req, err := http.NewRequest(http.MethodPost, target.url, nil)
		if err != nil {
			t.Fatalf("%q became %q: %v", raw, target.url, err)
		}
		if line := req.URL.RequestURI(); strings.ContainsAny(line, " \t\r\n\x00") || req.URL.User != nil || req.URL.Fragment != "" {
			t.Errorf("%q became %q", raw, target.url)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	tr := loopback(t, nil)
	for name, options := range map[string]Options{
		"no transport":     {Version: "1"},
		"no version":       {Transport: tr},
		"wrong version":    {Transport: tr, Version: "1\r\n"},
		"negative timeout": {Transport: tr, Version: "1", Timeout: -1},
	} {
		if _, err := New(options); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	registry := prometheus.NewRegistry()
	if _, err := New(Options{Transport: tr, Version: "1", Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Transport: tr, Version: "1", Registerer: registry}); err == nil {
		t.Error("metrics were registered twice")
	}
}
