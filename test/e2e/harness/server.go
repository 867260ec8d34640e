//go:build e2e

package harness

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Server is a server process that the scripts of test/e2e/services start and stop.
type Server struct {
	w       *workbench
	name    string
	Dir     string // its data and log
	port    int
	options []string // for the script; for the server itself if it is a database
	faked   []string // environment that fakes its clock, as NAME=VALUE
}

// server returns a server that is not started. Its kind is its name up to the first hyphen.
func (w *workbench) server(name string, options ...string) *Server {
	return &Server{w: w, name: name, Dir: filepath.Join(w.dir, name), options: options}
}

// OwnServer starts a server that only this test uses: kafka, registry, mariadb or mysql.
func OwnServer(t *testing.T, name string, options ...string) *Server {
	t.Helper()
	s := newServer(t, name, options...)
	s.own(t)
	return s
}

// newServer returns a server for one test, not started.
func newServer(t *testing.T, kind string, options ...string) *Server {
	t.Helper()
	w := shared(t)
	return w.server(fmt.Sprintf("%s-%s-%s", kind, w.run, notInNames.ReplaceAllString(strings.ToLower(t.Name()), "")), options...)
}

// SharedKafka returns the broker that tests share.
func SharedKafka(t *testing.T) *Server {
	t.Helper()
	return shared(t).kafka
}

// own starts the server and removes it at the end of the test.
func (s *Server) own(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", s.name, s.tail(10))
		}
		s.Stop(t, true)
		if err := os.RemoveAll(s.Dir); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server and returns when it answers. A second Start uses the same data and port.
func (s *Server) Start() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	remembered := filepath.Join(s.Dir, "port")
	if text, err := os.ReadFile(remembered); err == nil {
		s.port, _ = strconv.Atoi(string(text))
	}
	kind, _, _ := strings.Cut(s.name, "-")
	script := filepath.Join(s.w.root, "test/e2e/services", kind+"-up")
	var err error
	for range 3 { // somebody else may take the port first
		if s.port == 0 {
			s.port = freePorts(5)
		}
		args := slices.Concat(s.faked, []string{script}, s.options, []string{s.Dir, strconv.Itoa(s.port)})
		if kind == "mariadb" || kind == "mysql" { // options after the port go to the server
			args = slices.Concat(s.faked, []string{script, s.Dir, strconv.Itoa(s.port)}, s.options)
		}
		if err = s.w.command("env", args...); err == nil {
			return os.WriteFile(remembered, []byte(strconv.Itoa(s.port)), 0o600)
		}
		if _, known := os.Stat(remembered); known == nil {
			break
		}
		s.port = 0
	}
	return fmt.Errorf("start %s: %w", s.name, err)
}

// Stop stops the server, with SIGKILL if kill is set, and waits for its end. The data stays.
func (s *Server) Stop(t *testing.T, kill bool) {
	t.Helper()
	args := []string{s.Dir}
	if kill {
		args = []string{"--kill", s.Dir}
	}
	if err := s.w.command(filepath.Join(s.w.root, "test/e2e/services/down"), args...); err != nil {
		t.Error(err)
	}
}

// Address returns host and port at which the server listens.
func (s *Server) Address() string { return s.AddressAt(0) }

// AddressAt returns the address of the port that many after the first.
func (s *Server) AddressAt(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port+offset))
}

// tail returns the last lines of the server's log.
func (s *Server) tail(lines int) string {
	text, err := os.ReadFile(filepath.Join(s.Dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	return LastLines(string(text), lines)
}

// freePorts returns the first of n consecutive free ports, below the range that the system hands
// out.
func freePorts(n int) int {
	for {
		var random [2]byte
		rand.Read(random[:])
		first := 20000 + (int(random[0])<<8|int(random[1]))%1200*8
		free := true
		for port := first; port < first+n && free; port++ {
			l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if free = err == nil; free {
				_ = l.Close()
			}
		}
		if free {
			return first
		}
	}
}
