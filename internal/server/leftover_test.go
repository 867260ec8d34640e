package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// dial sends the begin of a request to a server, and leaves the connection open.
func dial(t *testing.T, s *Server, text string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// answered returns the status of the next answer on a connection.
func answered(t *testing.T, conn net.Conn) int {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Error(err)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	return answer.StatusCode
}

// Whoever announces a body that nobody waits for, and never sends it, must not hold up the answer,
// or the stop, for the read timeout.
func TestBodyThatNeverComes(t *testing.T) {
	t.Parallel()
	refused, _ := filters(t, nil, io.Discard)
	const length, chunked, token = "Content-Length: 100", "Transfer-Encoding: chunked", "Authorization: Bearer " + firstToken
	for name, c := range map[string]struct {
		handler http.Handler
		request string
		headers []string
		status  int
	}{
		"no token":            {refused, "POST " + enrollment, []string{length}, 401},
		"no token, chunked":   {refused, "POST " + enrollment, []string{chunked}, 401},
		"no token, continued": {refused, "POST " + enrollment, []string{length, "Expect: 100-continue"}, 401},
		"too long":            {refused, "POST " + enrollment, []string{"Content-Length: 1048577", token}, 413},
		"loop":                {refused, "POST " + enrollment, []string{length, token, rule.HopHeader + ": 1"}, 508},
		"other path":          {refused, "POST /x", []string{length}, 404},
		"other method":        {refused, "PUT " + enrollment, []string{length}, 405},
		"liveness":            {health(t), "GET /livez", []string{length}, 200},
		"liveness, posted":    {health(t), "POST /livez", []string{chunked}, 405},
		"long answer":         {health(t), "GET /metrics", []string{length}, 200},
		"unknown":             {health(t), "GET /x", []string{length}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.handler)
			began := time.Now()
			conn := dial(t, s, c.request+" HTTP/1.1\r\nHost: x\r\n"+strings.Join(c.headers, "\r\n")+"\r\n\r\n")
			if status := answered(t, conn); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 10*time.Second { // of 30 s that a body may take
				t.Errorf("answer and stop took %s", took)
			}
		})
	}
}

// Whoever does not send the body that is waited for is told so when its time is over.
func TestBodyThatIsWaitedForInVain(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]string{"nothing": "", "a part": "{"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler, _ := filters(t, nil, io.Discard)
			s, err := New(Options{Name: "filters", Address: "127.0.0.1:0", Setting: "x", Handler: handler, Timeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			conn := dial(t, s, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\n%s",
				enrollment, basic(firstToken), asJSON, begin))
			if status := answered(t, conn); status != http.StatusRequestTimeout {
				t.Errorf("status %d, want 408", status)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A body that is waited for may be slow; the connection serves the next request.
func TestSlowBodyIsTaken(t *testing.T) {
	t.Parallel()
	handler, _ := filters(t, func(context.Context, *webfilter.Request) (*webfilter.Outcome, error) {
		return &webfilter.Outcome{}, nil
	}, io.Discard)
	s := start(t, handler)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: 2\r\n\r\n",
		enrollment, basic(firstToken), asJSON)
	conn := dial(t, s, head)
	<-time.After(leftoverTime + 500*time.Millisecond)
	for _, more := range []string{"{}", head + "{}"} {
		if _, err := io.WriteString(conn, more); err != nil {
			t.Fatal(err)
		}
		if status := answered(t, conn); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	metric := handlerOf(t, handler).metrics.requests.WithLabelValues("CourseEnrollmentStarted", filterEmpty)
	if got := testutil.ToFloat64(metric); got != 2 {
		t.Errorf("%v of 2 requests were taken", got)
	}
}

// A refusal that comes with its body leaves the connection to the next request.
func TestRefusalKeepsTheConnection(t *testing.T) {
	t.Parallel()
	handler, _ := filters(t, nil, io.Discard)
	s := start(t, handler)
	const request = "POST " + enrollment + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	conn := dial(t, s, request)
	for range 2 {
		if status := answered(t, conn); status != http.StatusUnauthorized {
			t.Errorf("status %d", status)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
	}
	if status := answered(t, conn); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
