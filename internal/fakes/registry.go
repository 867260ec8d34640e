package fakes

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RegistryOptions configure a Registry.
type RegistryOptions struct {
	Path           string // prefix of every route, such as "/apis/ccompat/v7"; it may be empty
	User, Password string // required with basic authentication if User is set
	FirstID        int    // of a schema; 1 if 0
}

// Registry is a schema registry with the part of Confluent's API that consumers use: a schema by its
// id.
type Registry struct {
	server   *http.Server
	url      string
	options  RegistryOptions
	finished chan struct{}

	mu       sync.Mutex // guards the fields below
	schemas  map[int]string
	next     int
	requests int
	failure  int
	waiting  chan struct{}
}

// StartRegistry starts a registry on a free port of 127.0.0.1.
func StartRegistry(o RegistryOptions) (*Registry, error) {
	if o.FirstID == 0 {
		o.FirstID = 1
	}
	o.Path = strings.TrimSuffix(o.Path, "/")
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the embedded registry: %w", err)
	}
	r := &Registry{
		url: "http://" + listener.Addr().String() + o.Path, options: o, finished: make(chan struct{}),
		schemas: map[int]string{}, next: o.FirstID,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+o.Path+"/schemas/ids/{id}", r.byID)
	r.server = &http.Server{Handler: r.guard(mux), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(r.finished)
		_ = r.server.Serve(listener) // ends with ErrServerClosed
	}()
	return r, nil
}

// Close stops the registry and cuts its connections.
func (r *Registry) Close() error {
	r.Fail(0)
	err := r.server.Close()
	<-r.finished
	return err
}

// URL returns the address for clients, with the path.
func (r *Registry) URL() string { return r.url }

// Requests returns the number of requests, including refused ones.
func (r *Registry) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// Silence is an argument of Fail: requests are accepted and not answered.
const Silence = -1

// Fail makes every request fail with an HTTP status, or hang with Silence; 0 ends this and answers
// the requests that hang.
func (r *Registry) Fail(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = status
	if r.waiting != nil {
		close(r.waiting)
		r.waiting = nil
	}
	if status == Silence {
		r.waiting = make(chan struct{})
	}
}

// Register adds a schema, as a publisher does, and returns its id. The same text has the same id.
func (r *Registry) Register(schema string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, known := range r.schemas {
		if known == schema {
			return id
		}
	}
	id := r.next
	r.next++
	r.schemas[id] = schema
	return id
}

// Put stores a schema under a given id, for captured messages.
func (r *Registry) Put(id int, schema string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.schemas[id] = schema
	r.next = max(r.next, id+1)
}

func (r *Registry) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests++
		failure, waiting := r.failure, r.waiting
		r.mu.Unlock()
		if failure == Silence {
			select {
			case <-waiting:
			case <-req.Context().Done():
				return
			}
		} else if failure != 0 {
			http.Error(w, http.StatusText(failure), failure)
			return
		}
		if r.options.User != "" {
			user, password, _ := req.BasicAuth()
			if subtle.ConstantTimeCompare([]byte(user+"\x00"+password), []byte(r.options.User+"\x00"+r.options.Password)) != 1 {
				w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
				answer(w, http.StatusUnauthorized, map[string]any{"error_code": 401, "message": "Unauthorized"})
				return
			}
		}
		next.ServeHTTP(w, req)
	})
}

func (r *Registry) byID(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, err := strconv.Atoi(req.PathValue("id"))
	schema, ok := r.schemas[id]
	if err != nil || !ok {
		answer(w, http.StatusNotFound, map[string]any{"error_code": 40403, "message": "Schema not found"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"schema": schema})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
