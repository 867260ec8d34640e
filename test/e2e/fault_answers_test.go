//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestHostileReceivers has a rule for each way in which a receiver can cost its sender time and
// memory, and a healthy one. The healthy one gets everything as promptly as if it were alone, and
// the daemon stays small.
func TestHostileReceivers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	// What each does after reading the request, if it reads it.
	hostile := map[string]func(net.Conn){
		"endless body":         func(c net.Conn) { forever(c, ok+"\r\n", "x") },
		"endless chunks":       func(c net.Conn) { forever(c, ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n") },
		"endless header":       func(c net.Conn) { forever(c, ok+"X: ", "x") },
		"endless headers":      func(c net.Conn) { forever(c, ok, "X: y\r\n") },
		"endless 1xx":          func(c net.Conn) { forever(c, "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") },
		"endless trailer":      func(c net.Conn) { forever(c, ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n") },
		"dripping body":        func(c net.Conn) { slowly(c, ok+"Content-Length: 100000\r\n\r\n") },
		"dripping header":      func(c net.Conn) { slowly(c, ok) },
		"never answers":        func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"reset in the middle":  func(c net.Conn) { say(c, ok+"Content-Length: 9\r\n\r\nab"); reset(c) },
		"closes without a bit": func(net.Conn) {},
		"gzip bomb":            func(c net.Conn) { say(c, ok+"Content-Encoding: gzip\r\nContent-Length: "); say(c, bomb()) },
	}
	s := harness.NewSite(t)
	s.Lean = true
	s.Rule("healthy")
	s.Producer.CreateTopic(harness.Registrations, 3)
	d := s.Serve("WEBHOOK_DISPATCHER_TIMEOUT=2s", "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=2s,2s,2s,2s",
		"WEBHOOK_DISPATCHER_ENDPOINT_CONCURRENCY=16")
	idle := d.Goroutines()
	rate := harness.Sized(15, 60)
	alone := promptness(s, s.Producer.StartTraffic(harness.Registrations, 3, rate, 1_000_001), 5*time.Second)

	asked := map[string]*atomic.Int64{}
	add := func(name string, answer func(net.Conn)) {
		n := new(atomic.Int64)
		asked[name] = n
		s.Run("rules", "rules", "add", "--event", harness.RegistrationRule, "--url", listen(t, func(c net.Conn) { n.Add(1); answer(c) }))
	}
	for name, answer := range hostile {
		add(name, func(c net.Conn) {
			request, err := http.ReadRequest(bufio.NewReader(c))
			if err == nil {
				_, _ = io.Copy(io.Discard, request.Body)
				answer(c)
			}
		})
	}
	for name, answer := range map[string]string{ // without ever reading anything
		"early answer":  ok + "Content-Length: 17\r\n\r\n" + harness.SecretPath + "!",
		"early refusal": "HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
	} {
		add(name, func(c net.Conn) { say(c, answer); <-time.After(5 * time.Second) })
	}
	together := promptness(s, s.Producer.StartTraffic(harness.Registrations, 3, rate, 1), harness.Sized(15*time.Second, 3*time.Minute))
	if most := max(time.Second, 3*alone[1]); together[1] > most {
		t.Errorf("the healthy receiver got an event in a hundred after more than %s, want %s at most", together[1], most)
	}
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	peak := d.Peak()
	if peak > harness.PeakMemory {
		t.Errorf("the daemon took %.0f MiB, want %d at most", peak, harness.PeakMemory)
	}
	for name, n := range asked {
		if n.Load() < 10 {
			t.Errorf("%q was asked %d times only", name, n.Load())
		}
	}
	for line := range strings.Lines(d.Log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is no JSON: %s", line[:min(len(line), 300)])
			break
		}
	}
	// When their rules are gone, nothing of them is left.
	if _, err := s.DB.Exec("DELETE FROM openedx_webhooks_webhook WHERE webhook_url NOT LIKE ?", s.Base+"%"); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 60*time.Second, "rows of the hostile", func() error {
		return harness.Want("number", s.Rows("state < 2"), 0)
	})
	harness.Figure(t, "%d hostile receivers: healthy one's p50, p99 alone %s, with them %s; peak memory %.0f MiB; "+
		"goroutines %d idle, %d at the end; stopped in %s", len(asked), alone, together, peak, idle, d.WaitIdle(idle), d.Terminate())
}

// promptness lets traffic run for some time. It returns the p50 and p99 of the time from publishing
// an event until the healthy hook gets it, and the hook must get all.
func promptness(s *harness.Site, events *harness.Traffic, during time.Duration) [2]time.Duration {
	s.T.Helper()
	<-time.After(during)
	all := events.Stop()
	harness.Eventually(s.T, 10*time.Second, "every event at the healthy receiver", func() error {
		taken := s.Taken("healthy")
		for _, e := range all {
			if taken[e.ID] == 0 {
				return fmt.Errorf("event %s has not come", e.ID)
			}
		}
		return nil
	})
	var delays []time.Duration
	for _, request := range s.Got("healthy") {
		if at, ok := events.PublishedAt[request.Event]; ok {
			delete(events.PublishedAt, request.Event) // the first counts
			delays = append(delays, request.At.Sub(at).Round(time.Millisecond))
		}
	}
	slices.Sort(delays)
	return [2]time.Duration{delays[len(delays)/2], delays[len(delays)*99/100]}
}

// listen serves TCP connections with handle and returns an HTTP URL.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetWriteBuffer(32 << 10) // the test's own cost
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			serving.Go(func() {
				handle(c)
				_ = c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	return "http://" + l.Addr().String() + "/" + harness.SecretPath
}

func say(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

// forever sends begin and then repeats again until the client is gone.
func forever(c net.Conn, begin, again string) {
	say(c, begin)
	again = strings.Repeat(again, 1+(8<<10)/len(again))
	for {
		if _, err := io.WriteString(c, again); err != nil {
			return
		}
	}
}

// slowly sends begin and then a letter now and then until the client is gone.
func slowly(c net.Conn, begin string) {
	say(c, begin)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
	}
}

// reset makes closing a connection send a RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// bomb is the content length, the end of the header and the body of an answer that unpacks to 64
// MiB.
var bomb = sync.OnceValue(func() string {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return strconv.Itoa(packed.Len()) + "\r\n\r\n" + packed.String()
})
