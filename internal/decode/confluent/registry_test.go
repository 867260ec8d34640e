package confluent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transport answers in place of a server.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answers(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}}, nil
}

const (
	goodSchema = `{"schema": "{\"type\":\"record\",\"name\":\"R\",\"fields\":[]}"}`
	denial     = `{"error_code": 40403, "message": "Schema 7 not found"}`
)

func newClient(t *testing.T, rt transport) *Client {
	t.Helper()
	c, err := NewClient(ClientOptions{URL: "http://user:hunter2@registry.example/apis/ccompat/v7", Transport: rt})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientAgainstAServer(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		user, password, _ := r.BasicAuth()
		if r.URL.Path != "/apis/ccompat/v7/schemas/ids/7" || user != "key" || password != "secret" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		fmt.Fprint(w, goodSchema)
	}))
	defer server.Close()
	registerer := prometheus.NewRegistry()
	c, err := NewClient(ClientOptions{
		URL: server.URL + "/apis/ccompat/v7/", Username: "key", Password: "secret", Registerer: registerer,
		TLS: server.Client().Transport.(*http.Transport).TLSClientConfig,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if s, err := c.Schema(t.Context(), 7); err != nil || s == nil {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
	wg.Wait()
	if got := calls.Load(); got != 1 {
		t.Errorf("%d requests for one id, want 1", got)
	}
	if got := testutil.ToFloat64(c.requests.WithLabelValues(outcome(nil))); got != 1 {
		t.Errorf("counter %v", got)
	}
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
}

// Whatever else than the registry's own denial happens, the call waits and Ready tells why, without
// credentials.
func TestWaitsWhileTheRegistryIsAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rt   transport
		want string
	}{
		"refused":     {func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, "connection refused"},
		"other 404":   {func(*http.Request) (*http.Response, error) { return answers(404, "<html>") }, "check the URL's path"},
		"version 404": {func(*http.Request) (*http.Response, error) { return answers(404, `{"error_code": 40402}`) }, "answered 404"},
		"code on 500": {func(*http.Request) (*http.Response, error) { return answers(500, denial) }, "answered 500"},
		"401":         {func(*http.Request) (*http.Response, error) { return answers(401, "") }, "API key"},
		"403":         {func(*http.Request) (*http.Response, error) { return answers(403, "{}") }, "API key"},
		"503":         {func(*http.Request) (*http.Response, error) { return answers(503, "{}") }, "answered 503"},
		"login page":  {func(*http.Request) (*http.Response, error) { return answers(200, "<html>") }, "no schema"},
		"empty":       {func(*http.Request) (*http.Response, error) { return answers(200, "{}") }, "schema"},
		"silence": {func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, "no answer within 5s"},
		"endless": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(endless{}), Header: http.Header{}}, nil
		}, "no schema"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				c := newClient(t, test.rt)
				c.log = slog.New(slog.NewTextHandler(&log, nil))
				ctx, cancel := context.WithCancelCause(t.Context())
				done := make(chan error)
				go func() {
					_, err := c.Schema(ctx, 7)
					done <- err
				}()
				pass(20 * time.Second) // of the bubble
				synctest.Wait()
				ready := fmt.Sprint(c.Ready())
				if !strings.Contains(ready, "http://registry.example/apis/ccompat/v7") || !strings.Contains(ready, test.want) ||
					strings.Contains(ready+log.String(), "hunter2") {
					t.Errorf("ready: %s", ready)
				}
				if n := strings.Count(log.String(), "\n"); n != 1 {
					t.Errorf("%d log lines for one cause: %s", n, log.String())
				}
				stopped := errors.New("stopped")
				cancel(stopped)
				err := <-done
				if _, ok := decode.AsUndecodable(err); ok || !errors.Is(err, stopped) {
					t.Errorf("error %v", err)
				}
				if err := c.Ready(); err != nil {
					t.Errorf("nothing waits any more, but: %v", err)
				}
			})
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestRegistryComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var gaps []time.Duration
		last := begin
		c := newClient(t, func(*http.Request) (*http.Response, error) {
			gaps = append(gaps, time.Since(last))
			last = time.Now()
			if time.Since(begin) < 30*time.Second {
				return answers(502, "")
			}
			return answers(200, goodSchema)
		})
		if _, err := c.Schema(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		for i, gap := range gaps[1:] {
			want := min(firstBackoff<<i, lastBackoff)
			if gap < want*9/10 || gap > want*11/10 {
				t.Errorf("pause %d is %s, want about %s", i, gap, want)
			}
		}
		if err := c.Ready(); err != nil {
			t.Error(err)
		}
	})
}

func TestUnknownSchema(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		exists := false
		c := newClient(t, func(*http.Request) (*http.Response, error) {
			requests++
			if exists {
				return answers(200, goodSchema)
			}
			return answers(404, denial)
		})
		begin := time.Now()
		_, err := c.Schema(t.Context(), 7)
		if u, ok := decode.AsUndecodable(err); !ok || u.Reason != decode.ReasonUnknownSchema {
			t.Fatalf("error %v", err)
		}
		if took := time.Since(begin); took < unknownAfter || took > unknownAfter+2*lastBackoff {
			t.Errorf("unknown after %s", took)
		}
		if err := c.Ready(); err != nil {
			t.Errorf("a registry that answers is ready: %v", err)
		}
		before := requests
		for range 100 { // a batch of records with that id costs no further request
			if _, err := c.Schema(t.Context(), 7); err == nil {
				t.Fatal("no error")
			}
		}
		if requests != before {
			t.Errorf("%d further requests", requests-before)
		}
		pass(unknownFor)
		again := time.Now()
		if _, err := c.Schema(t.Context(), 7); err == nil || requests != before+1 || time.Since(again) > 0 {
			t.Errorf("%v after %d requests and %s", err, requests-before, time.Since(again))
		}
		pass(unknownFor)
		exists = true
		if _, err := c.Schema(t.Context(), 7); err != nil {
			t.Errorf("registered by now, but %v", err)
		}
	})
}

// Only an unbroken row of denials counts.
func TestDenialsInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		c := newClient(t, func(*http.Request) (*http.Response, error) {
			if at := time.Since(begin); at > 40*time.Second && at < 50*time.Second {
				return answers(503, "")
			}
			return answers(404, denial)
		})
		_, err := c.Schema(t.Context(), 7)
		if u, ok := decode.AsUndecodable(err); !ok || u.Reason != decode.ReasonUnknownSchema {
			t.Fatalf("error %v", err)
		}
		if took := time.Since(begin); took < 50*time.Second+unknownAfter {
			t.Errorf("unknown after %s", took)
		}
	})
}

// Denials seen an hour apart, with nobody asking in between, are no row either.
func TestDenialsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, func(*http.Request) (*http.Response, error) { return answers(404, denial) })
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := c.Schema(ctx, 7)
			cancel()
			if _, ok := decode.AsUndecodable(err); ok || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v", err)
			}
			pass(time.Hour)
		}
	})
}

// A caller that gives up hands its turn to the next one.
func TestTurnIsHandedOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var concurrent, most atomic.Int64
		c := newClient(t, func(*http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), concurrent.Add(1)))
			defer concurrent.Add(-1)
			pass(100 * time.Millisecond)
			if time.Since(begin) < time.Minute {
				return answers(503, "")
			}
			return answers(200, goodSchema)
		})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				ctx := t.Context()
				if i%2 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Duration(i+1)*time.Second)
					defer cancel()
				}
				if _, err := c.Schema(ctx, 7); (err != nil) != (i%2 == 0) {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 1 {
			t.Errorf("%d requests at once", most.Load())
		}
		if len(c.asking) != 0 { // with the causes that they waited for
			t.Errorf("left behind: %d questions", len(c.asking))
		}
	})
}

func TestBadSchemasAreRememberedForGood(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"schema": "{"}`,
		`{"schema": "\"long\""}`,
		`{"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}`,
		strings.TrimSuffix(goodSchema, "}") + `,"references":[{"name":"a","subject":"b","version":1}]}`,
	} {
		requests := 0
		c := newClient(t, func(*http.Request) (*http.Response, error) {
			requests++
			return answers(200, body)
		})
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // waiting is what it must not do
			_, err := c.Schema(ctx, 7)
			cancel()
			if u, ok := decode.AsUndecodable(err); !ok || u.Reason != decode.ReasonBadSchema {
				t.Errorf("%s: %v", body, err)
			}
		}
		if requests != 1 {
			t.Errorf("%s: %d requests", body, requests)
		}
	}
}

func TestUnknownIDsAreBounded(t *testing.T) {
	t.Parallel()
	c := newClient(t, nil)
	for id := range uint32(2 * maxUnknown) {
		c.deny(id)
	}
	if len(c.unknown) != maxUnknown {
		t.Errorf("%d ids remembered", len(c.unknown))
	}
}

func TestClientOptions(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "registry:8081", "ftp://registry", "http://", "http://r/?a=b", "http://u:hunter2@r:bad port/", "http://r/#x",
	} {
		if _, err := NewClient(ClientOptions{URL: url}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := NewClient(ClientOptions{URL: "http://r", Timeout: -1}); err == nil {
		t.Error("a negative timeout is taken")
	}
}

// pass lets fake time pass, in a test: what works beside it waits for time.After alone.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
