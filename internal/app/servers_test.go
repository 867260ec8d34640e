package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// call is a request that a receiver got.
type call struct {
	Path   string
	Header http.Header
	Body   string
	Number int // of calls with this webhook-id, from 1
	Status int // answered; 0 while it is not
}

func (c *call) id() string { return c.Header.Get("Webhook-Id") }

// receiver is an endpoint. answer, where set, decides; otherwise everything is taken.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

func (w *world) receiver(answer func(rw http.ResponseWriter, r *http.Request, c *call)) *receiver {
	w.t.Helper()
	rec := &receiver{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		c := call{Path: r.URL.Path, Header: r.Header.Clone(), Body: string(body), Number: 1}
		rec.mu.Lock()
		for i := range rec.calls {
			if rec.calls[i].id() == c.id() {
				c.Number++
			}
		}
		at := len(rec.calls)
		rec.calls = append(rec.calls, c)
		rec.mu.Unlock()
		answered := &statusWriter{rw, http.StatusOK}
		if answer != nil {
			answer(answered, r, &c)
		}
		rec.mu.Lock()
		rec.calls[at].Status = answered.status
		rec.mu.Unlock()
	}))
	w.t.Cleanup(rec.Close)
	return rec
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap serves http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// at returns a URL of the receiver that is full of what nobody else may see.
func (r *receiver) at(path string) string {
	return strings.Replace(r.URL, "http://", "http://user:"+canary+"@", 1) + path + "/" + canary + "?token=" + canary
}

func (r *receiver) all() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *receiver) wait(t *testing.T, n int) []call {
	t.Helper()
	wait(t, fmt.Sprintf("%d calls", n), func() (bool, string) {
		got := len(r.all())
		return got >= n, fmt.Sprintf("%d calls", got)
	})
	return r.all()
}

// gate stands before the database. While it is shut, connections are cut as soon as they are made.
type gate struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards what follows
	shut  bool
	conns map[net.Conn]struct{}
}

func openGate(t *testing.T, target string) *gate {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	g.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			g.wg.Go(func() { g.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		g.setShut(true)
		g.wg.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.listener.Addr().String() }

func (g *gate) pass(conn net.Conn) {
	defer conn.Close()
	back, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", g.target)
	if err != nil {
		return
	}
	defer back.Close()
	g.mu.Lock()
	if g.shut {
		g.mu.Unlock()
		return
	}
	g.conns[conn], g.conns[back] = struct{}{}, struct{}{}
	g.mu.Unlock()
	var copies sync.WaitGroup
	for _, way := range [][2]net.Conn{{conn, back}, {back, conn}} {
		copies.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = conn.Close(), back.Close()
		})
	}
	copies.Wait()
	g.mu.Lock()
	delete(g.conns, conn)
	delete(g.conns, back)
	g.mu.Unlock()
}

func (g *gate) setShut(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for conn := range g.conns {
			_ = conn.Close()
		}
	}
}

// logBuffer keeps what the daemons log.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// find returns the first line that holds s, "" where none does.
func (b *logBuffer) find(s string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.text.String()) {
		if strings.Contains(line, s) {
			return line
		}
	}
	return ""
}

func (b *logBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := strings.SplitAfter(b.text.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
