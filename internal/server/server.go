// Package server serves the daemon's HTTP endpoints: health, metrics and filters.
//
// A Server is one listen address with its handler. Checks and metrics come from outside: this
// package knows neither Kafka nor SQL.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options configure a Server.
type Options struct {
	Name    string        // for logs, such as "health"
	Address string        // host:port; port 0 picks a free one
	Setting string        // that Address comes from, for errors, such as "WEBHOOK_DISPATCHER_LISTEN (--listen)"
	Handler http.Handler  // required
	Timeout time.Duration // of reading a request and writing its answer, 30 s if zero
	Logger  *slog.Logger  // nil discards
}

const (
	headerTimeout = 5 * time.Second // keeps slow clients from holding connections
	leftoverTime  = time.Second     // for a body that the handler does not read
)

// Server is one HTTP listener. It is started once.
type Server struct {
	options Options
	log     *slog.Logger
	http    *http.Server

	mu       sync.Mutex
	listener net.Listener  // guarded by mu; nil before Start
	ended    chan struct{} // closed when serving has ended
	err      error         // why it ended without Stop; read after ended is closed
}

// New returns a Server that does not listen yet.
func New(options Options) (*Server, error) {
	if options.Handler == nil {
		return nil, fmt.Errorf("%s server: Handler is nil", options.Name)
	}
	if options.Timeout < 0 {
		return nil, fmt.Errorf("%s server: the timeout %s is negative", options.Name, options.Timeout)
	}
	options.Timeout = cmp.Or(options.Timeout, 30*time.Second)
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	s := &Server{options: options, log: options.Logger.With("component", options.Name), ended: make(chan struct{})}
	s.http = &http.Server{
		Handler:           boundLeftovers(options.Handler, options.Timeout),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       options.Timeout,
		// Leaves time to answer a client whose body timed out.
		WriteTimeout:   options.Timeout + 2*leftoverTime,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		// Its messages have client addresses and do not help operators.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	return s, nil
}

// Start listens and serves until Stop. It returns once connections are accepted.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return fmt.Errorf("%s server: started twice", s.options.Name)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.options.Address)
	if err != nil {
		return fmt.Errorf("listen for %s on %q, set by %s: %w; choose a free address of this machine",
			s.options.Name, s.options.Address, s.options.Setting, cause(err))
	}
	s.listener = listener
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.err = fmt.Errorf("serve %s on %s: %w", s.options.Name, listener.Addr(), err)
		}
	}()
	s.log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("address", listener.Addr().String()))
	return nil
}

// cause strips the address, which the message already has.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// Addr returns the address with the actual port; nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Ended is closed when the server has stopped serving; then Err says why, if not by Stop.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Err returns why serving ended without Stop. Call it once Ended is closed.
func (s *Server) Err() error { return s.err }

// Stop stops accepting and waits for running requests until ctx ends; then it cuts them and returns
// an error. It does nothing before Start.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	started := s.listener != nil
	s.mu.Unlock()
	if !started {
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop the %s server: %w; open requests were cut", s.options.Name, err), s.http.Close())
	}
	<-s.ended
	return errors.Join(err, s.err)
}

// boundLeftovers keeps clients that announce a body and do not send it from holding a connection,
// and thereby Stop, for the whole timeout. net/http reads what a handler has left of a body, up to
// the connection's deadline. So an unread body gets leftoverTime, from when the handler begins
// until it reads, and again after it returns. A body that is read gets the whole timeout.
func boundLeftovers(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 { // net/http watches the connection then, which needs its own deadline
			next.ServeHTTP(w, r)
			return
		}
		conn := http.NewResponseController(w)
		// Fails only if the connection is gone.
		until := func(deadline time.Time) { _ = conn.SetReadDeadline(deadline) }
		end := time.Now().Add(timeout)
		body := &leftover{ReadCloser: r.Body, wanted: func() { until(end) }}
		defer func() {
			if !body.ended {
				until(time.Now().Add(leftoverTime))
			}
		}()
		until(time.Now().Add(leftoverTime))
		request := r.WithContext(r.Context()) // a copy, as net/http needs its own body
		request.Body = body
		next.ServeHTTP(w, request)
	})
}

// leftover is a request's body. One goroutine reads it, and only while the handler runs.
type leftover struct {
	io.ReadCloser

	wanted func() // called before the first Read
	begun  bool
	ended  bool // read to its end
}

// Read implements io.Reader.
func (b *leftover) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		b.wanted()
	}
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

// readOnly allows only GET and HEAD.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}
