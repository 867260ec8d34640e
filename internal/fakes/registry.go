package fakes

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RegistryOptions configure a Registry.
type RegistryOptions struct {
	// Path is the prefix of every route, such as "/apis/ccompat/v7"; it may be empty.
	Path string
	// User and Password are required with basic authentication if User is set.
	User, Password string
	// FirstID is the id of the first schema; 1 if 0.
	FirstID int
}

// Registry is a schema registry with the part of Confluent's API that publishers and consumers of
// events use: register a schema under a subject, look one up by id, by subject and by text.
type Registry struct {
	server   *http.Server
	url      string
	options  RegistryOptions
	finished chan struct{}

	mu       sync.Mutex // guards the fields below
	schemas  map[int]schemaBody
	subjects map[string][]int // ids by version, from 1
	next     int
	requests int
	failure  int
	waiting  chan struct{}
}

type schemaBody struct {
	Schema     string            `json:"schema"`
	SchemaType string            `json:"schemaType,omitempty"`
	References []json.RawMessage `json:"references,omitempty"`
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
		schemas: map[int]schemaBody{}, subjects: map[string][]int{}, next: o.FirstID,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+o.Path+"/schemas/ids/{id}", r.byID)
	mux.HandleFunc("GET "+o.Path+"/schemas/ids/{id}/versions", r.usages)
	mux.HandleFunc("GET "+o.Path+"/subjects", r.listSubjects)
	mux.HandleFunc("GET "+o.Path+"/subjects/{subject}/versions", r.listVersions)
	mux.HandleFunc("GET "+o.Path+"/subjects/{subject}/versions/{version}", r.byVersion)
	mux.HandleFunc("POST "+o.Path+"/subjects/{subject}/versions", r.register)
	mux.HandleFunc("POST "+o.Path+"/subjects/{subject}", r.lookUp)
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

// Register adds a schema under a subject, as a publisher does, and returns its id. The same text
// has the same id.
func (r *Registry) Register(subject, schema string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.add(subject, schemaBody{Schema: schema})
}

// Put stores a schema under a given id, for captured messages.
func (r *Registry) Put(id int, schema string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.schemas[id] = schemaBody{Schema: schema}
	r.next = max(r.next, id+1)
}

// add is called with mu held.
func (r *Registry) add(subject string, body schemaBody) int {
	id := 0
	for known, s := range r.schemas {
		if s.Schema == body.Schema && s.SchemaType == body.SchemaType && (id == 0 || known < id) {
			id = known
		}
	}
	if id == 0 {
		id = r.next
		r.next++
		r.schemas[id] = body
	}
	if slices.Contains(r.subjects[subject], id) {
		return id
	}
	r.subjects[subject] = append(r.subjects[subject], id)
	return id
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
				refuse(w, http.StatusUnauthorized, 401, "Unauthorized")
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
	body, ok := r.schemas[id]
	if err != nil || !ok {
		refuse(w, http.StatusNotFound, 40403, "Schema not found")
		return
	}
	answer(w, body)
}

func (r *Registry) usages(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, err := strconv.Atoi(req.PathValue("id"))
	if _, ok := r.schemas[id]; err != nil || !ok {
		refuse(w, http.StatusNotFound, 40403, "Schema not found")
		return
	}
	type usage struct {
		Subject string `json:"subject"`
		Version int    `json:"version"`
	}
	list := []usage{}
	for subject, ids := range r.subjects {
		for i, used := range ids {
			if used == id {
				list = append(list, usage{subject, i + 1})
			}
		}
	}
	slices.SortFunc(list, func(a, b usage) int { return strings.Compare(a.Subject, b.Subject) })
	answer(w, list)
}

func (r *Registry) listSubjects(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer(w, append([]string{}, slices.Sorted(maps.Keys(r.subjects))...)) // [] if empty, not null
}

func (r *Registry) listVersions(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids, ok := r.subjects[req.PathValue("subject")]
	if !ok {
		refuse(w, http.StatusNotFound, 40401, "Subject not found")
		return
	}
	versions := make([]int, len(ids))
	for i := range ids {
		versions[i] = i + 1
	}
	answer(w, versions)
}

func (r *Registry) byVersion(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	subject := req.PathValue("subject")
	ids, ok := r.subjects[subject]
	if !ok {
		refuse(w, http.StatusNotFound, 40401, "Subject not found")
		return
	}
	version, err := strconv.Atoi(req.PathValue("version"))
	if req.PathValue("version") == "latest" {
		version, err = len(ids), nil
	}
	if err != nil || version < 1 || version > len(ids) {
		refuse(w, http.StatusNotFound, 40402, "Version not found")
		return
	}
	answer(w, r.describe(subject, version))
}

func (r *Registry) register(w http.ResponseWriter, req *http.Request) {
	body, err := readSchema(req)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, 42201, err.Error())
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	answer(w, map[string]int{"id": r.add(req.PathValue("subject"), body)})
}

func (r *Registry) lookUp(w http.ResponseWriter, req *http.Request) {
	body, err := readSchema(req)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, 42201, err.Error())
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	subject := req.PathValue("subject")
	ids, ok := r.subjects[subject]
	if !ok {
		refuse(w, http.StatusNotFound, 40401, "Subject not found")
		return
	}
	for i, id := range ids {
		if r.schemas[id].Schema == body.Schema {
			answer(w, r.describe(subject, i+1))
			return
		}
	}
	refuse(w, http.StatusNotFound, 40403, "Schema not found")
}

// describe is called with mu held.
func (r *Registry) describe(subject string, version int) any {
	id := r.subjects[subject][version-1]
	return struct {
		Subject string `json:"subject"`
		Version int    `json:"version"`
		ID      int    `json:"id"`
		schemaBody
	}{subject, version, id, r.schemas[id]}
}

func readSchema(req *http.Request) (schemaBody, error) {
	var body schemaBody
	if err := json.NewDecoder(http.MaxBytesReader(nil, req.Body, 16<<20)).Decode(&body); err != nil {
		return body, fmt.Errorf("read the request: %w", err)
	}
	if body.Schema == "" {
		return body, errors.New("the request has no schema")
	}
	return body, nil
}

const registryMediaType = "application/vnd.schemaregistry.v1+json"

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", registryMediaType)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func refuse(w http.ResponseWriter, status, code int, message string) {
	w.Header().Set("Content-Type", registryMediaType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error_code": code, "message": message}) // the client may be gone
}
