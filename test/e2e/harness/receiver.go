//go:build e2e

package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// SecretPath is in every receiver's URL. It must not appear in any output of the daemon.
const SecretPath = "canary-path-5f1c"

// Received is one request that a receiver got.
type Received struct {
	Path   string // the name of the hook
	Method string
	Header http.Header
	Body   string
	ID     string // webhook-id
	Event  string // event_metadata.id
	At     time.Time
	Status int // of the answer; 0 while there is none
}

// Reply is what a receiver answers.
type Reply struct {
	Status int
	Header map[string]string
	Body   string
	After  <-chan struct{} // the reply waits until this is closed; nil: at once
}

// Script returns the reply to the n-th request, from 1, of a delivery to a hook.
type Script func(n int, r *Received) Reply

// Receiver is an HTTP server with any number of hooks. It records what it gets. Hooks without a
// script answer 200.
type Receiver struct {
	Base   string // URL to which the name of a hook is added
	server *http.Server

	mu       sync.Mutex // guards what follows
	Lean     bool       // do not keep headers and bodies
	requests []*Received
	tries    map[string]int // by hook and webhook-id
	scripts  map[string]Script
}

func newReceiver(t *testing.T) *Receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Receiver{Base: "http://" + l.Addr().String() + "/" + SecretPath + "/", tries: map[string]int{}, scripts: map[string]Script{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.server.Serve(l) })
	t.Cleanup(func() {
		_ = r.server.Close()
		serving.Wait()
	})
	return r
}

// URL returns the URL of a hook, with a secret in its path and its query.
func (r *Receiver) URL(hook string) string { return r.Base + hook + "?key=" + SecretPath }

// On sets the script of a hook.
func (r *Receiver) On(hook string, s Script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scripts[hook] = s
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender has gone away
	}
	got := &Received{
		Path: strings.TrimPrefix(req.URL.Path, "/"+SecretPath+"/"), Method: req.Method, Header: req.Header, Body: string(body),
		ID: req.Header.Get("webhook-id"), Event: eventID(req.Header.Get("Content-Type"), body), At: time.Now(),
	}
	r.mu.Lock()
	if r.Lean {
		got.Header, got.Body = nil, ""
	}
	r.requests = append(r.requests, got)
	r.tries[got.Path+" "+got.ID]++
	n, answer := r.tries[got.Path+" "+got.ID], r.scripts[got.Path]
	r.mu.Unlock()
	response := Reply{Status: http.StatusOK}
	if answer != nil {
		response = answer(n, got)
	}
	if response.After != nil {
		select {
		case <-response.After:
		case <-req.Context().Done():
			return
		}
	}
	for name, value := range response.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(response.Status)
	_, _ = io.WriteString(w, response.Body) // the sender may have gone away
	r.mu.Lock()
	got.Status = response.Status
	r.mu.Unlock()
}

// eventID finds event_metadata.id in a body.
func eventID(contentType string, body []byte) string {
	if contentType == "application/x-www-form-urlencoded" {
		form, _ := url.ParseQuery(string(body))
		return form.Get("event_metadata_id")
	}
	var message struct {
		Metadata struct {
			ID string `json:"id"`
		} `json:"event_metadata"`
	}
	_ = json.Unmarshal(body, &message)
	return message.Metadata.ID
}

// Got returns the requests that a hook has got so far.
func (r *Receiver) Got(hook string) []Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Received
	for _, request := range r.requests {
		if request.Path == hook {
			list = append(list, *request)
		}
	}
	return list
}

// Count returns how many requests a hook has got.
func (r *Receiver) Count(hook string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, request := range r.requests {
		if request.Path == hook {
			n++
		}
	}
	return n
}

// Taken returns, by event id, how often a hook has answered with a 2xx.
func (r *Receiver) Taken(hook string) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	times := map[string]int{}
	for _, request := range r.requests {
		if request.Path == hook && request.Status/100 == 2 {
			times[request.Event]++
		}
	}
	return times
}

// Answers returns a script that answers with these statuses in turn and then repeats the last.
func Answers(statuses ...int) Script {
	return func(n int, _ *Received) Reply { return Reply{Status: statuses[min(n, len(statuses))-1]} }
}

// Passed returns a channel that is closed after d.
func Passed(d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	time.AfterFunc(d, func() { close(done) })
	return done
}

// Delivers waits until a hook has taken all of these events and no other, and returns how long that
// took.
func (s *Site) Delivers(hook string, ids []string, limit time.Duration) time.Duration {
	s.T.Helper()
	return Eventually(s.T, limit, hook, func() error {
		taken := s.Taken(hook)
		for _, id := range ids {
			if taken[id] == 0 {
				return fmt.Errorf("event %s has not come; %d events of %d have", id, len(taken), len(ids))
			}
		}
		return Want("number of events", len(taken), len(ids))
	})
}
