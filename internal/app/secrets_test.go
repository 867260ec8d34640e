package app_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
)

// Every way for a delivery to go wrong is logged, and nothing secret with it: newWorld looks
// through all output when a test has ended. Here are those ways that the other tests do not take.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	f := w.load("COURSE_ENROLLMENT_CREATED__full")
	answering := func(answer func(http.ResponseWriter, *http.Request, *call)) string {
		return w.receiver(answer).at("/hooks")
	}
	plain := w.receiver(nil)
	gone := w.receiver(nil)
	for _, url := range []string{
		answering(func(rw http.ResponseWriter, _ *http.Request, _ *call) {
			rw.Header().Set("Location", "https://user:"+canary+"@moved.example/"+canary)
			rw.WriteHeader(http.StatusMovedPermanently)
		}),
		answering(func(rw http.ResponseWriter, r *http.Request, c *call) {
			rw.Header().Set("X-"+canary, r.URL.String())
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, canary+c.Body)
		}),
		answering(func(rw http.ResponseWriter, _ *http.Request, _ *call) { raw(rw, canary+" is no HTTP\r\n\r\n") }),
		answering(func(rw http.ResponseWriter, _ *http.Request, _ *call) {
			raw(rw, "HTTP/1.1 200 OK\r\n"+canary+"\r\n\r\n")
		}),
		answering(func(rw http.ResponseWriter, _ *http.Request, _ *call) { raw(rw, "") }),
		answering(func(_ http.ResponseWriter, r *http.Request, _ *call) { <-r.Context().Done() }),
		strings.Replace(plain.at("/hooks"), "http://", "https://", 1),
		gone.at("/hooks"),
		"http://user:" + canary + "@host.invalid/" + canary,
		"http://user:" + canary + "@169.254.169.254/" + canary,
		"http://user:" + canary + "@127.0.0.1:1/%zz" + canary,
		"http://user " + canary + "@127.0.0.1/",
		"gopher://" + canary + "@127.0.0.1/" + canary,
		canary,
	} {
		w.rule(f.Event, url, false)
	}
	gone.Close()
	w.publish(f.message(0, "one"))
	bad := f.message(0, "two")
	bad.Key, bad.Value = []byte(canary), []byte(canary)
	bad.Headers = append(bad.Headers, kgo.RecordHeader{Key: canary, Value: []byte(canary)})
	w.publish(bad)
	d := w.start(func(cfg *config.Config) {
		cfg.Timeout, cfg.HandOffAfter = 300*time.Millisecond, 100*time.Millisecond
		cfg.SchemaRegistryAPIKey, cfg.SchemaRegistryAPISecret = canary, canary
		cfg.RetrySchedule = []time.Duration{100 * time.Millisecond}
	})
	w.waitCommitted(0, 2)
	wait(t, "all deliveries to end", func() (bool, string) {
		rows := w.rows()
		for _, r := range rows {
			if r.State < 2 {
				return false, fmt.Sprintf("%+v", r)
			}
		}
		return len(rows) == 10, fmt.Sprintf("%d rows", len(rows))
	})
	w.registry.Fail(http.StatusUnauthorized)
	other := w.load("STUDENT_REGISTRATION_COMPLETED__readme")
	w.rule(other.Event, plain.at(""), false)
	wait(t, "the refresh", func() (bool, string) {
		active := d.metric(`webhook_dispatcher_rules{status="active"}`)
		return active == "11", active
	})
	w.publish(other.message(0, "three"))
	d.waitReady(http.StatusServiceUnavailable, "schema registry")
	w.gate.setShut(true)
	d.waitReady(http.StatusServiceUnavailable, `"name": "database"`)
	d.end()
	// The search itself must be able to find something.
	for _, word := range []string{plain.URL[len("http://"):], "host.invalid", "moved.example", "undecodable record", "rule is left out"} {
		if w.log.find(word) == "" {
			t.Errorf("%q is not in the log", word)
		}
	}
}

// raw answers with anything, and hangs up.
func raw(rw http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		panic(err)
	}
	defer func(c net.Conn) { _ = c.Close() }(conn)
	_, _ = io.WriteString(conn, text)
}
