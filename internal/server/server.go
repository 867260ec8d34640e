// Package server answers the HTTP requests that the daemon itself takes: whether it lives, whether it is ready, and its
// metrics.
//
// A Server is one listen address with its routes; an API, the filters and the receivers each get one of their own, with
// their own handler. What is checked and what is measured comes from outside: this package knows neither Kafka nor SQL.
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
	"strings"
	"sync"
	"time"
)

// Options are what a Server needs.
type Options struct {
	// Name is used in logs, such as "health".
	Name string
	// Address is host:port; port 0 takes a free one.
	Address string
	// Setting names where Address comes from, for errors, such as "WEBHOOK_DISPATCHER_LISTEN (--listen)".
	Setting string
	// Handler is required: without it net/http would serve its global mux.
	Handler http.Handler
	// Timeout bounds reading a request and writing its answer, 30 s if zero.
	Timeout time.Duration
	Logger  *slog.Logger // nil discards
}

const (
	// headerTimeout bounds reading a request's header: it keeps slow clients from holding connections.
	headerTimeout = 5 * time.Second
	// leftoverTime bounds the wait for a body that the handler does not read.
	leftoverTime = time.Second
)

// Server is one HTTP listener. It is started once.
type Server struct {
	options Options
	log     *slog.Logger
	http    *http.Server

	mu       sync.Mutex
	listener net.Listener  // guarded by mu; nil before Start
	ended    chan struct{} // closed when serving has ended
	err      error         // why it ended by itself; read after ended is closed
}

// New returns a Server that does not listen yet.
func New(options Options) (*Server, error) {
	if options.Handler == nil {
		return nil, fmt.Errorf("%s server: no handler was given", options.Name)
	}
	if options.Timeout < 0 {
		return nil, fmt.Errorf("%s server: the timeout %s is negative: every request would end at once", options.Name, options.Timeout)
	}
	if options.Timeout == 0 {
		options.Timeout = 30 * time.Second
	}
	options.Logger = cmp.Or(options.Logger, slog.New(slog.DiscardHandler))
	s := &Server{options: options, log: options.Logger.With("component", options.Name), ended: make(chan struct{})}
	s.http = &http.Server{
		Handler:           boundLeftovers(options.Handler, options.Timeout),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       options.Timeout,
		// Who does not send the body that is waited for gets the answer to that, after net/http has looked for the rest once more.
		WriteTimeout:   options.Timeout + 2*leftoverTime,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		// Its messages hold client addresses and nothing that helps an operator; TLS is not served here.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	return s, nil
}

// Start listens, and serves until Stop. It returns once connections are accepted; an error names the setting.
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

// cause strips the address that the message has already.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// Addr returns the address listened on, with the port that was taken; nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Ended is closed when the server no longer serves. Err says why, if it was not stopped.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Err returns why serving ended by itself. It may be called once Ended is closed.
func (s *Server) Err() error { return s.err }

// Stop stops accepting, lets running requests end until ctx does, and cuts what is left: it returns then at the latest, with an error.
// Without one no request is being served any more. Stopping a server that was not started does nothing.
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

// boundLeftovers keeps whoever announces a body and does not send it from holding a connection, and with it a Stop, for the whole read
// timeout. net/http reads what a handler has left of a body before it sends the answer, or before it takes the next request; it cannot
// be told not to, but keeps to the connection's deadline. So a body that is not read to its end gets leftoverTime, counted from when the
// handler begins until it reads the body, and again from when it has returned. A body that is read has the whole timeout.
func boundLeftovers(next http.Handler, timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 { // then net/http watches the connection, for which no other deadline must hold
			next.ServeHTTP(w, r)
			return
		}
		conn := http.NewResponseController(w)
		// It fails only where the connection is gone.
		until := func(deadline time.Time) { _ = conn.SetReadDeadline(deadline) }
		end := time.Now().Add(timeout)
		body := &leftover{ReadCloser: r.Body, wanted: func() { until(end) }}
		defer func() {
			if !body.ended {
				until(time.Now().Add(leftoverTime))
			}
		}()
		until(time.Now().Add(leftoverTime))
		request := r.WithContext(r.Context()) // a copy: net/http's own one keeps the body that it knows
		request.Body = body
		next.ServeHTTP(w, request)
	})
}

// leftover is the body of a request. It is read by one goroutine, and no longer once the handler has returned.
type leftover struct {
	io.ReadCloser

	wanted func() // called before the first reading
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

// readOnly lets GET and HEAD through.
func readOnly(next http.Handler) http.Handler {
	allowed := strings.Join([]string{http.MethodGet, http.MethodHead}, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", allowed)
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}
