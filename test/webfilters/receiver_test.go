//go:build e2e

package webfilters

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// receiver is the endpoint of all rows of a case and records its requests. It answers in raw bytes,
// because HTTP libraries correct what they send.
type receiver struct {
	address string

	mu    sync.Mutex // guards what follows
	rows  []row
	calls []call
}

// call is one request.
type call struct {
	Method, Path, ContentType, Authorization, Body string
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{address: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed at the end
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				if err := r.answer(conn); err != nil {
					t.Errorf("the receiver: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	return r
}

// expect sets the rows that will be called and forgets earlier calls.
func (r *receiver) expect(rows []row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows, r.calls = rows, nil
}

// take returns the calls since the last take.
func (r *receiver) take() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

// columns returns the rows as Django has them. The first path segment of their URLs is the row's
// index.
func (r *receiver) columns(rows []row) []columns {
	list := make([]columns, len(rows))
	for i := range rows {
		address := r.address
		if rows[i].answer.fault == refused {
			address = "127.0.0.1:1" // a port that no process is given by chance
		}
		if rows[i].credential != "" {
			address = rows[i].credential + "@" + address
		}
		list[i] = rows[i].columns(fmt.Sprintf("http://%s/%d%s", address, i, rows[i].after))
	}
	return list
}

// answer reads one request of a connection and answers it.
func (r *receiver) answer(conn net.Conn) error {
	reader := bufio.NewReader(conn)
	req, err := http.ReadRequest(reader)
	if err == io.EOF { //nolint:errorlint // a connection that was not used; a cut request is another error
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return fmt.Errorf("read a request's body: %w", err)
	}
	a, err := r.record(req, string(body))
	if err != nil {
		return err
	}
	switch a.fault {
	case silent:
		_, _ = io.Copy(io.Discard, reader) // until the client gives up
	case hangup:
	case reset:
		return conn.(*net.TCPConn).SetLinger(0)
	default:
		// The client may have gone: it gives up if an answer is wrong.
		_, _ = conn.Write(a.wire(strings.Contains(req.Header.Get("Accept-Encoding"), "gzip")))
	}
	return nil
}

func (r *receiver) record(req *http.Request, body string) (*answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call{
		Method: req.Method, Path: req.RequestURI, ContentType: req.Header.Get("Content-Type"),
		Authorization: req.Header.Get("Authorization"), Body: body,
	})
	number := strings.FieldsFunc(req.URL.Path, func(c rune) bool { return c == '/' })
	if len(number) > 0 {
		if n, err := strconv.Atoi(number[0]); err == nil && n < len(r.rows) {
			return &r.rows[n].answer, nil
		}
	}
	return nil, fmt.Errorf("a request for %s, which no row has", req.RequestURI)
}

// moment matches a time in UTC as Python's isoformat writes it.
var moment = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00$`)

// timeless returns the call without the event's time, in which two calls always differ, and what is
// wrong with that time, "" for nothing.
func (c call) timeless(filter string) (same call, problem string) {
	before, until := fmt.Sprintf(`"event_metadata": {"event_type": %q, "time": "`, filter), `"`
	if strings.HasPrefix(c.ContentType, "application/x-www-form-urlencoded") {
		before, until = "event_metadata_event_type="+filter+"&event_metadata_time=", "&"
	}
	head, rest, ok := strings.Cut(c.Body, before)
	if !ok || strings.Contains(rest, before) {
		return c, "there is not one time of the event in it"
	}
	text, tail, more := strings.Cut(rest, until)
	if more {
		tail = until + tail
	}
	if until == "&" {
		var err error
		if text, err = url.QueryUnescape(text); err != nil {
			return c, err.Error()
		}
	}
	if !moment.MatchString(text) {
		return c, fmt.Sprintf("the time %q is not in Python's form", text)
	}
	c.Body = head + before + tail
	return c, ""
}
