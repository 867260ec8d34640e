//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// secretPath is part of every receiver's URL. It must not appear in any output of the daemon.
const secretPath = "canary-path-5f1c"

// received is one request that a receiver got.
type received struct {
	Path   string // the name of the hook
	Method string
	Header http.Header
	Body   string
	ID     string // webhook-id
	Event  string // event_metadata.id
	At     time.Time
	Status int // of the answer; 0 while there is none
}

// reply is what a receiver answers.
type reply struct {
	status int
	header map[string]string
	body   string
	after  <-chan struct{} // nil: at once
}

// script decides on the answer to the n-th request, from 1, of a delivery to a hook.
type script func(n int, r *received) reply

// receiver is an endpoint of webhooks that remembers what it was sent. Hooks without a script answer 200.
type receiver struct {
	base   string
	server *http.Server

	mu       sync.Mutex // guards what follows
	lean     bool       // headers and bodies are not kept
	requests []*received
	tries    map[string]int // by hook and webhook-id
	scripts  map[string]script
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{base: "http://" + l.Addr().String() + "/" + secretPath + "/", tries: map[string]int{}, scripts: map[string]script{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.server.Serve(l) })
	t.Cleanup(func() {
		_ = r.server.Close()
		serving.Wait()
	})
	return r
}

// url returns the URL of a hook; its query is a secret too.
func (r *receiver) url(hook string) string { return r.base + hook + "?key=" + secretPath }

// on sets the script of a hook.
func (r *receiver) on(hook string, s script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scripts[hook] = s
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender went away in the middle of it
	}
	got := &received{
		Path: strings.TrimPrefix(req.URL.Path, "/"+secretPath+"/"), Method: req.Method, Header: req.Header, Body: string(body),
		ID: req.Header.Get("webhook-id"), Event: eventID(req.Header.Get("Content-Type"), body), At: time.Now(),
	}
	r.mu.Lock()
	if r.lean {
		got.Header, got.Body = nil, ""
	}
	r.requests = append(r.requests, got)
	r.tries[got.Path+" "+got.ID]++
	n, answer := r.tries[got.Path+" "+got.ID], r.scripts[got.Path]
	r.mu.Unlock()
	response := reply{status: http.StatusOK}
	if answer != nil {
		response = answer(n, got)
	}
	if response.after != nil {
		select {
		case <-response.after:
		case <-req.Context().Done():
			return
		}
	}
	for name, value := range response.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(response.status)
	_, _ = io.WriteString(w, response.body) // who asked may have gone away
	r.mu.Lock()
	got.Status = response.status
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

// got returns what a hook has been sent so far.
func (r *receiver) got(hook string) []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []received
	for _, request := range r.requests {
		if request.Path == hook {
			list = append(list, *request)
		}
	}
	return list
}

// count returns how many requests a hook has got.
func (r *receiver) count(hook string) int {
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

// taken counts for each event how often a hook has answered it with a 2xx.
func (r *receiver) taken(hook string) map[string]int {
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

// answers returns a script that answers with these statuses in turn, and with the last one from then on.
func answers(statuses ...int) script {
	return func(n int, _ *received) reply { return reply{status: statuses[min(n, len(statuses))-1]} }
}

// passed returns a channel that is closed after some time.
func passed(d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	time.AfterFunc(d, func() { close(done) })
	return done
}
