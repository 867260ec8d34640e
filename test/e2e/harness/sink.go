//go:build e2e

package harness

import (
	"bytes"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Sink is a set of endpoints for load tests. It keeps only the number and time of each event,
// because it shares the machine with the daemon.
type Sink struct {
	t    *testing.T
	base string

	mu        sync.RWMutex // guards endpoints
	endpoints map[string]*Endpoint
	released  chan struct{} // closed to end the requests that hang
	release   sync.Once
}

// Behaviour answers a request whose body has been read, and reports whether the answer is a 2xx. n
// counts the endpoint's requests from 1.
type Behaviour func(k *Sink, w http.ResponseWriter, r *http.Request, n int64) bool

// Endpoint is one URL of a sink.
type Endpoint struct {
	url      string
	behave   Behaviour
	requests atomic.Int64

	mu     sync.Mutex // guards what follows
	came   map[int]time.Time
	visits []Visit
}

// Visit is a request that has been answered or abandoned by its sender.
type Visit struct {
	Event int
	At    time.Time // when it came
	taken bool      // answered with a 2xx
}

// NewSink starts a sink without endpoints. It ends with the test.
func NewSink(t *testing.T) *Sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &Sink{
		t: t, base: "http://" + l.Addr().String() + "/" + SecretPath + "/", endpoints: map[string]*Endpoint{}, released: make(chan struct{}),
	}
	server := &http.Server{Handler: k, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		k.LetGo()
		_ = server.Close()
		serving.Wait()
	})
	return k
}

// LetGo answers all hanging requests with 200 and makes endpoints stop hanging.
func (k *Sink) LetGo() { k.release.Do(func() { close(k.released) }) }

// add creates an endpoint. Without a behaviour it answers 200 at once.
func (k *Sink) add(name string, b Behaviour) *Endpoint {
	if b == nil {
		b = Takes
	}
	e := &Endpoint{url: k.base + name + "?key=" + SecretPath, behave: b, came: map[int]time.Time{}}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.endpoints[name] = e
	return e
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// ServeHTTP implements http.Handler.
func (k *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.RLock()
	e := k.endpoints[strings.TrimPrefix(r.URL.Path, "/"+SecretPath+"/")]
	k.mu.RUnlock()
	body := bodies.Get().(*bytes.Buffer)
	body.Reset()
	_, err := body.ReadFrom(r.Body)
	event := EventNumber(body.Bytes())
	bodies.Put(body)
	if e == nil || event < 0 || err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	number := e.requests.Add(1)
	now := time.Now()
	e.mu.Lock()
	if _, ok := e.came[event]; !ok {
		e.came[event] = now
	}
	e.mu.Unlock()
	taken := e.behave(k, w, r, number)
	e.mu.Lock()
	e.visits = append(e.visits, Visit{Event: event, At: now, taken: taken})
	e.mu.Unlock() // the answer is sent when ServeHTTP returns
}

// EventNumber finds the number of a Load's event in a body, -1 if there is none.
func EventNumber(body []byte) int {
	_, rest, ok := bytes.Cut(body, []byte(idPrefix))
	if !ok || len(rest) < 12 {
		return -1
	}
	n, err := strconv.Atoi(string(rest[:12]))
	if err != nil {
		return -1
	}
	return n
}

// Firsts returns when each event first came, by number.
func (e *Endpoint) Firsts() map[int]time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.came)
}

// Events returns how many distinct events have come.
func (e *Endpoint) Events() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.came)
}

// Visited returns the endpoint's requests so far.
func (e *Endpoint) Visited() []Visit {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.visits)
}

// Taken returns, by event number, how often the endpoint has answered with a 2xx.
func (e *Endpoint) Taken() map[int]int {
	times := map[int]int{}
	for _, v := range e.Visited() {
		if v.taken {
			times[v.Event]++
		}
	}
	return times
}

// Takes answers 200 at once.
func Takes(_ *Sink, w http.ResponseWriter, _ *http.Request, _ int64) bool {
	w.WriteHeader(http.StatusOK)
	return true
}

// Hangs answers only when the sink lets go; senders give up at their timeout.
func Hangs(k *Sink, w http.ResponseWriter, r *http.Request, n int64) bool {
	select {
	case <-k.released:
		return Takes(k, w, r, n)
	case <-r.Context().Done():
		return false
	}
}

// Refuses answers 503 with a Retry-After of a minute.
func Refuses(_ *Sink, w http.ResponseWriter, _ *http.Request, _ int64) bool {
	w.Header().Set("Retry-After", "60")
	w.WriteHeader(http.StatusServiceUnavailable)
	return false
}

// FailsEverySecond answers 500 to every second request.
func FailsEverySecond(k *Sink, w http.ResponseWriter, r *http.Request, n int64) bool {
	if n%2 == 0 {
		w.WriteHeader(http.StatusInternalServerError)
		return false
	}
	return Takes(k, w, r, n)
}

// Drips answers 200 with a body of one byte per second that would last an hour.
func Drips(k *Sink, w http.ResponseWriter, r *http.Request, _ int64) bool {
	w.Header().Set("Content-Length", "3600")
	w.WriteHeader(http.StatusOK)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		if _, err := w.Write([]byte{'.'}); err != nil {
			return false
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-k.released:
			return false
		case <-r.Context().Done():
			return false
		case <-ticker.C:
		}
	}
}

// RefusedAddress returns an address that refuses connections: its port is taken, but nothing
// listens.
func RefusedAddress(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port))
}

// AddHook creates an endpoint of the sink and a rule that sends it the events of a constant. It
// returns both, the rule by its id.
func (s *Site) AddHook(k *Sink, name, constant string, b Behaviour) (*Endpoint, int64) {
	s.T.Helper()
	e := k.add(name, b)
	return e, s.AddRule(constant, e.url)
}
