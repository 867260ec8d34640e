package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// ran stands for an engine.
type ran func(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error)

func (r ran) Run(ctx context.Context, q *webfilter.Request) (*webfilter.Outcome, error) {
	return r(ctx, q)
}

const (
	firstToken  = "first-t0ken"
	secondToken = "second-t0ken"
	enrollment  = "/filters/v1/CourseEnrollmentStarted"
	asJSON      = "application/json"
)

func filters(t *testing.T, run ran, log io.Writer) (http.Handler, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	handler, err := NewFilters(FilterOptions{
		Filters: run, Tokens: []string{firstToken, secondToken}, Registerer: registry, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return handler, registry
}

// object is what JSON says.
func object(t *testing.T, text string) payload.Value {
	t.Helper()
	v, err := payload.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func basic(password string) string { return as("dispatcher", password) }

func as(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestFilterEndpoint(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("x", maxFilterBody-len(`{"k": ""}`))
	for _, c := range []struct {
		name                         string
		method, path, authorization  string
		contentType, body            string
		hop                          bool
		came                         webfilter.Outcome
		status                       int
		want                         string // the answer, or a part of it where the status is not 200
		label, outcome               string // of the metric; "" for none
		header, headerValue, payload string
	}{
		{name: "nothing said", status: 200, want: "{}", outcome: "empty", header: "Content-Type", headerValue: asJSON},
		{
			name: "data", came: webfilter.Outcome{Data: object(t, `{"é": 1.0}`)}, status: 200, want: `{"data": {"\u00e9": 1.0}}`, outcome: "data",
		},
		{
			name: "exception", came: webfilter.Outcome{Data: object(t, `{"a": 1}`), Exceptions: object(t, `{"P": null}`)},
			status: 200, want: `{"data": {"a": 1}, "exception": {"P": null}}`, outcome: "exception",
		},
		{
			name: "halted", came: webfilter.Outcome{Halt: &webfilter.Halt{Message: "m", Status: 500}}, outcome: "halted",
			status: 200, want: `{"exception": {"PreventEnrollment": {"message": "m", "redirect_to": "", "status_code": 500}}}`,
		},
		{name: "bearer", authorization: "bearer  " + secondToken, status: 200, want: "{}", outcome: "empty"},
		{name: "another token", authorization: basic(secondToken), status: 200, want: "{}", outcome: "empty"},
		{name: "any user", authorization: as("", firstToken), status: 200, want: "{}", outcome: "empty"},
		{
			name: "form", contentType: "application/x-www-form-urlencoded", body: "b=1&a=%2B", status: 200, want: "{}", outcome: "empty",
			payload: `{"b": "1", "a": "+"}`,
		},
		{name: "as long as may be", body: `{"k": "` + full + `"}`, status: 200, want: "{}", outcome: "empty"},
		{name: "any other filter", path: "/filters/v1/Unheard", status: 200, want: "{}", label: "other", outcome: "empty"},
		{
			name: "old name", path: "/filters/v1/studentsettingsrenderstarted", status: 200, want: "{}",
			label: "AccountSettingsRenderStarted", outcome: "empty",
		},

		{
			name: "no credentials", authorization: " ", status: 401, outcome: "unauthorized",
			header: "WWW-Authenticate", headerValue: `Basic realm="webfilters"`,
		},
		{name: "wrong token", authorization: basic("x"), status: 401, outcome: "unauthorized"},
		{name: "empty token", authorization: basic(""), status: 401, outcome: "unauthorized"},
		{name: "both tokens", authorization: "Bearer " + firstToken + "," + secondToken, status: 401, outcome: "unauthorized"},
		{name: "token as user", authorization: as(firstToken, ""), status: 401, outcome: "unauthorized"},
		{name: "other scheme", authorization: "Digest " + firstToken, status: 401, outcome: "unauthorized"},
		{name: "second pass", hop: true, status: 508, want: "leads back here", outcome: "loop"},
		{name: "second pass without credentials", hop: true, authorization: " ", status: 401, outcome: "unauthorized"},
		{name: "no JSON", body: `{"s3cret": `, status: 400, want: "parse JSON", outcome: "invalid"},
		{name: "no object", body: `["s3cret"]`, status: 400, want: "is not an object", outcome: "invalid"},
		{name: "empty", body: " ", status: 400, outcome: "invalid"},
		{name: "other type", contentType: "text/plain", status: 400, want: "Content-Type", outcome: "invalid"},
		{name: "too long", body: `{"k": "` + full + `" }`, status: 413, want: "1 MiB", outcome: "too_large"},
		{name: "wrong method", method: "GET", status: 405, header: "Allow", headerValue: "POST"},
		{name: "no filter", path: "/filters/v1/", status: 404},
		{name: "more path", path: enrollment + "/x", status: 404},
		{name: "other path", path: "/metrics", status: 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var seen *webfilter.Request
			var log bytes.Buffer
			handler, registry := filters(t, func(_ context.Context, q *webfilter.Request) (*webfilter.Outcome, error) {
				seen = q
				return &c.came, nil
			}, &log)
			or := func(given, otherwise string) string {
				if given == "" {
					return otherwise
				}
				return strings.TrimSpace(given)
			}
			r := httptest.NewRequestWithContext(t.Context(),
				or(c.method, "POST"), or(c.path, enrollment)+"?s3cret", strings.NewReader(or(c.body, `{"k": 1}`)))
			r.Header.Set("Authorization", or(c.authorization, basic(firstToken)))
			r.Header.Set("Content-Type", or(c.contentType, asJSON))
			if c.hop {
				r.Header.Set(rule.HopHeader, "1")
			}
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, r)
			body := answer.Body.String()
			if answer.Code != c.status || !strings.Contains(body, c.want) || c.status == 200 && body != c.want {
				t.Errorf("%d %q", answer.Code, body)
			}
			if got := answer.Header().Get(c.header); got != c.headerValue {
				t.Errorf("%s is %q", c.header, got)
			}
			if (seen != nil) != (c.status == 200) {
				t.Errorf("rows called: %v", seen)
			}
			if seen != nil && c.payload != "" && string(payload.AppendJSON(nil, seen.Payload)) != c.payload {
				t.Errorf("payload %s", payload.AppendJSON(nil, seen.Payload))
			}
			if c.outcome != "" {
				label := or(c.label, "CourseEnrollmentStarted")
				got := testutil.ToFloat64(handlerOf(t, handler).metrics.requests.WithLabelValues(label, c.outcome))
				if n, err := testutil.GatherAndCount(registry, "webhook_dispatcher_filter_overhead_seconds"); got != 1 || n != 1 || err != nil {
					t.Errorf("%s %s: %v requests, %d, %v", label, c.outcome, got, n, err)
				}
			}
			for _, secret := range []string{"s3cret", "t0ken"} {
				if strings.Contains(log.String(), secret) || strings.Contains(body, secret) {
					t.Errorf("%s shows in %q or %q", secret, log.String(), body)
				}
			}
			if logged := log.Len() > 0; logged != (c.outcome != "" && c.status != 200) {
				t.Errorf("logged %q", log.String())
			}
		})
	}
}

func handlerOf(t *testing.T, handler http.Handler) *filterEndpoint {
	t.Helper()
	h, _ := handler.(*http.ServeMux).Handler(httptest.NewRequestWithContext(t.Context(), "POST", enrollment, nil))
	return h.(*filterEndpoint)
}

// Many wrong guesses are refused shortly; the LMS, which may share an address with who guesses, is
// not.
func TestWrongCredentialsAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		handler, _ := filters(t, func(context.Context, *webfilter.Request) (*webfilter.Outcome, error) {
			return &webfilter.Outcome{}, nil
		}, &log)
		ask := func(from, token string) int {
			r := httptest.NewRequestWithContext(t.Context(), "POST", enrollment, strings.NewReader("{}"))
			r.RemoteAddr = from
			r.Header.Set("Authorization", basic(token))
			r.Header.Set("Content-Type", asJSON)
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, r)
			return answer.Code
		}
		for i := range failureBurst + 5 {
			want := http.StatusUnauthorized
			if i >= failureBurst {
				want = http.StatusTooManyRequests
			}
			if got := ask(fmt.Sprintf("[2001:db8::%x]:%d", i, i+1), "x"); got != want {
				t.Fatalf("guess %d: %d, want %d: the hosts of one /64 are one", i, got, want)
			}
		}
		for from, want := range map[string]int{"[2001:db8:0:1::1]:1": 401, "10.0.0.1:1": 401, "[2001:db8::1]:1": 429} {
			if got := ask(from, "x"); got != want {
				t.Errorf("%s: %d, want %d", from, got, want)
			}
		}
		if got := ask("[2001:db8::1]:1", firstToken); got != http.StatusOK {
			t.Errorf("a known token from an address that guesses: %d", got)
		}
		<-time.After(time.Second)
		if first, second := ask("[2001:db8::1]:1", "x"), ask("[2001:db8::1]:1", "x"); first != 401 || second != 429 {
			t.Errorf("a second later: %d, %d", first, second)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines", lines)
		}
	})
}

func TestGuessesCostBoundedMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, err := newTokenGuard([]string{firstToken})
		if err != nil {
			t.Fatal(err)
		}
		guess := func(i int) int {
			r := httptest.NewRequestWithContext(t.Context(), "POST", enrollment, nil)
			r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)
			return g.check(r)
		}
		for i := range maxAddresses {
			guess(i)
		}
		limited := 0
		for i := range 20 {
			if guess(maxAddresses+i) == http.StatusTooManyRequests {
				limited++
			}
		}
		if len(g.failing) != maxAddresses || limited != 20-failureBurst {
			t.Errorf("%d addresses, %d of 20 more limited", len(g.failing), limited)
		}
		<-time.After(2 * time.Second)
		if guess(1 << 20); len(g.failing) != 1 {
			t.Errorf("%d addresses: those that have been quiet are to be forgotten", len(g.failing))
		}
	})
}

// Whoever asks hangs up: the calls are given up.
func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	entered, ended := make(chan struct{}), make(chan struct{})
	handler, registry := filters(t, func(ctx context.Context, _ *webfilter.Request) (*webfilter.Outcome, error) {
		close(entered)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}, io.Discard)
	s := start(t, handler)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: 2\r\n\r\n{}",
		enrollment, basic(firstToken), asJSON); err != nil {
		t.Fatal(err)
	}
	select {
	case <-entered:
	case <-time.After(10 * time.Second):
		t.Fatal("the request was not taken")
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	metric := handlerOf(t, handler).metrics.requests.WithLabelValues("CourseEnrollmentStarted", filterCancelled)
	if got := testutil.ToFloat64(metric); got != 1 {
		t.Errorf("%v cancelled", got)
	}
	took, own := observed(t, registry, "webhook_dispatcher_filter_request_duration_seconds"),
		observed(t, registry, "webhook_dispatcher_filter_overhead_seconds")
	if took != 1 || own != 0 {
		t.Errorf("%d durations, %d of them the endpoint's own: it only waited", took, own)
	}
}

// Whoever has not gone away must not take a request that came to nothing for one that lets
// everything pass.
func TestGivenUpIsNoAnswer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body io.Reader
		want int
	}{
		"the body breaks off": {iotest.ErrReader(io.ErrUnexpectedEOF), http.StatusRequestTimeout},
		"it is given up":      {strings.NewReader("{}"), http.StatusServiceUnavailable},
	} {
		handler, _ := filters(t, func(context.Context, *webfilter.Request) (*webfilter.Outcome, error) {
			return nil, context.Canceled
		}, io.Discard)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, enrollment, tc.body)
		r.Header.Set("Authorization", basic(firstToken))
		r.Header.Set("Content-Type", asJSON)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != tc.want || w.Body.Len() == 0 {
			t.Errorf("%s: status %d %q, want %d", name, w.Code, w.Body, tc.want)
		}
	}
}

// observed returns how many values a histogram has.
func observed(t *testing.T, registry *prometheus.Registry, name string) (n uint64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// A body without a length that is too long is not read to its end.
func TestEndlessBody(t *testing.T) {
	t.Parallel()
	handler, _ := filters(t, nil, io.Discard)
	s := start(t, handler)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
			enrollment, basic(firstToken), asJSON)
		chunk := fmt.Sprintf("10000\r\n%s\r\n", strings.Repeat(" ", 0x10000))
		for {
			if _, err := io.WriteString(conn, chunk); err != nil {
				return
			}
		}
	}()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%d, %v", answer.StatusCode, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWrongFilterOptions(t *testing.T) {
	t.Parallel()
	run := ran(nil)
	for name, o := range map[string]FilterOptions{
		"no engine": {Tokens: []string{"x"}}, "no token": {Filters: run}, "empty token": {Filters: run, Tokens: []string{"x", ""}},
		"space in a token": {Filters: run, Tokens: []string{"t0k en"}}, "not ASCII": {Filters: run, Tokens: []string{"t0kén"}},
	} {
		if _, err := NewFilters(o); err == nil || strings.Contains(err.Error(), "t0k") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
