package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func health(t *testing.T, checks ...Check) http.Handler {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := RegisterProcess(registry, "1.2.3", "abc"); err != nil {
		t.Fatal(err)
	}
	handler, err := NewHealth(HealthOptions{Checks: checks, Gatherer: registry})
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func request(t *testing.T, handler http.Handler, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return answer
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	handler := health(t, Check{"kafka", "consuming", func(context.Context) error { return nil }})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/livez", 200, "ok\n"},
		{"HEAD", "/livez", 200, ""},
		{"GET", "/readyz", 200, `"ready": true`},
		{"GET", "/metrics", 200, `webhook_dispatcher_build_info{go_version="go`},
		{"GET", "/metrics", 200, `revision="abc",version="1.2.3"} 1`},
		{"GET", "/metrics", 200, "go_goroutines"},
		{"POST", "/livez", 405, "method not allowed"},
		{"DELETE", "/metrics", 405, ""},
		{"GET", "/", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
	} {
		answer := request(t, handler, c.method, c.path)
		if answer.Code != c.status || !strings.Contains(answer.Body.String(), c.body) {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, answer.Code, answer.Body, c.status, c.body)
		}
		if c.status == 405 && answer.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow %q", c.method, c.path, answer.Header().Get("Allow"))
		}
	}
}

// A part that does not answer must neither hold up the probe nor hide the other parts.
func TestReadyNamesEachPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		handler := health(t,
			Check{"rules", "consuming", func(context.Context) error { return nil }},
			Check{"registry", "consuming", func(context.Context) error { return errors.New("http://registry:8081 answers 503") }},
			Check{"database", "consuming", func(context.Context) error { <-stuck; return nil }},
		)
		began := time.Now()
		answer := request(t, handler, "GET", "/readyz")
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %s", took)
		}
		close(stuck)
		var got Readiness
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		want := []Part{
			{"rules", true, ""},
			{"registry", false, "http://registry:8081 answers 503"},
			{"database", false, "the check timed out"},
		}
		if answer.Code != 503 || got.Ready || !slices.Equal(got.Parts, want) {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
}

// What one role lacks must not take another out of its service; and a role that is not there is not
// ready.
func TestReadyByRole(t *testing.T) {
	t.Parallel()
	ready := func(context.Context) error { return nil }
	away := func(context.Context) error { return errors.New("away") }
	handler := health(t, Check{"database", "consuming", away}, Check{"kafka", "consuming", ready}, Check{"endpoint", "filters", ready})
	for query, want := range map[string]struct {
		status int
		parts  string // in the order of the checks
	}{
		"":                                 {503, "database kafka endpoint"},
		"?":                                {503, "database kafka endpoint"},
		"?role=consuming":                  {503, "database kafka"},
		"?role=filters":                    {200, "endpoint"},
		"?role=receivers":                  {400, ""},
		"?role=":                           {400, ""},
		"?role=Filters":                    {400, ""},
		"?rol=filters":                     {400, ""},
		"?role=filters&role=consuming":     {400, ""},
		"?role=filters&verbose":            {400, ""},
		"?role=%zz":                        {400, ""},
		"?" + strings.Repeat("role=", 500): {400, ""},
	} {
		answer := request(t, handler, "GET", "/readyz"+query)
		if answer.Code != want.status {
			t.Errorf("%q: %d %s, want %d", query, answer.Code, answer.Body, want.status)
		}
		if want.status == http.StatusBadRequest {
			if text := answer.Body.String(); !strings.Contains(text, "one of consuming, filters;") || len(text) > 400 {
				t.Errorf("%q: %s", query, text)
			}
			continue
		}
		var got Readiness
		if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, part := range got.Parts {
			names = append(names, part.Name)
		}
		if strings.Join(names, " ") != want.parts || got.Ready != (want.status == http.StatusOK) {
			t.Errorf("%q: %s", query, answer.Body)
		}
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	if _, err := NewHealth(HealthOptions{}); err == nil {
		t.Error("no gatherer: accepted")
	}
	if _, err := NewHealth(HealthOptions{Gatherer: prometheus.NewRegistry(), Checks: []Check{{Name: "x"}}}); err == nil {
		t.Error("no check function: accepted")
	}
	ready := func(context.Context) error { return nil }
	if _, err := NewHealth(HealthOptions{Gatherer: prometheus.NewRegistry(), Checks: []Check{{Name: "x", Ready: ready}}}); err == nil {
		t.Error("no role: accepted")
	}
	if _, err := New(Options{Name: "x"}); err == nil {
		t.Error("no handler: accepted")
	}
	registry := prometheus.NewRegistry()
	if err := errors.Join(RegisterProcess(registry, "1", "a")); err != nil {
		t.Error(err)
	}
	if err := RegisterProcess(registry, "1", "a"); err == nil {
		t.Error("registered twice: accepted")
	}
}

func start(t *testing.T, handler http.Handler) *Server {
	t.Helper()
	s, err := New(Options{Name: "health", Address: "127.0.0.1:0", Setting: "WEBHOOK_DISPATCHER_LISTEN (--listen)", Handler: handler})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	s := start(t, health(t))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil || string(body) != "ok\n" {
		t.Errorf("%q %v", body, err)
	}

	other, err := New(Options{Name: "health", Address: s.Addr().String(), Setting: "WEBHOOK_DISPATCHER_LISTEN (--listen)", Handler: health(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_LISTEN (--listen)") ||
		strings.Count(err.Error(), s.Addr().String()) != 1 {
		t.Errorf("a taken address: %v", err)
	}
	if err := other.Stop(t.Context()); err != nil {
		t.Errorf("stop before start: %v", err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil || s.Err() != nil {
			t.Errorf("stop: %v, %v", err, s.Err())
		}
	}
}

// A request whose header never ends must not hold up the stop beyond its context.
func TestStopCutsHeadersThatDoNotEnd(t *testing.T) {
	t.Parallel()
	s := start(t, health(t))
	conn := dial(t, s, "GET /livez HTTP/1.1\r\nHost: x\r\nX: ")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > headerTimeout/2 {
		t.Errorf("took %s", took)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("the connection was not cut")
	}
}

// A request that does not end must not hold up the stop beyond its context.
func TestStopCutsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v", err)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("the connection was not cut")
	}
	<-s.Ended()
}
