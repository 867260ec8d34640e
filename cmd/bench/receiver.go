package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	hookPath  = "/hook"
	statsPath = "/stats" // arrivals, as JSON
	bodyPath  = "/body"  // of the last delivery
)

// receiverCommand answers webhooks with a minimal HTTP/1.1 server, to leave the CPU to the others.
type receiverCommand struct {
	Delay time.Duration

	mu    sync.Mutex
	last  []byte // body
	seen  map[int]bool
	got   arrivals
	waits []time.Duration // from publish to arrival
}

// arrivals counts the deliveries of a receiver. First and Last are Unix nanoseconds; the percentiles
// are those from publish to arrival.
type arrivals struct {
	Count, Distinct int
	First, Last     int64
	percentiles
}

// Run implements the command.
func (c *receiverCommand) Run(ctx context.Context, out io.Writer) error {
	c.seen = map[int]bool{}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	fmt.Fprintf(out, "http://%s\n", l.Addr())
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		go func() {
			defer conn.Close() //nolint:errcheck // the client sees it
			_ = c.serve(conn)  // the client is gone
		}()
	}
}

var answer = response(nil)

func response(body []byte) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func (c *receiverCommand) serve(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, 16<<10)
	var body []byte
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		stats, last := bytes.Contains(line, []byte(statsPath)), bytes.Contains(line, []byte(bodyPath))
		length := 0
		for len(line) > 2 {
			if line, err = r.ReadSlice('\n'); err != nil {
				return err
			}
			if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
					return err
				}
			}
		}
		body = slices.Grow(body[:0], length)[:length]
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		reply := answer
		switch {
		case stats:
			reply = c.stats()
		case last:
			c.mu.Lock()
			reply = response(c.last)
			c.mu.Unlock()
		default:
			c.arrived(body, time.Now())
			if c.Delay > 0 {
				<-time.After(c.Delay)
			}
		}
		if _, err := conn.Write(reply); err != nil {
			return err
		}
	}
}

func (c *receiverCommand) arrived(body []byte, now time.Time) {
	published, seq, ok := parseID(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got.Count++; c.got.Count == 1 {
		c.got.First = now.UnixNano()
	}
	c.got.Last, c.last = now.UnixNano(), append(c.last[:0], body...)
	if ok && !c.seen[seq] {
		c.seen[seq] = true
		c.got.Distinct++
		c.waits = append(c.waits, now.Sub(published))
	}
}

func (c *receiverCommand) stats() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	if len(c.waits) <= 50_000 { // more are published long before
		got.percentiles = percentilesOf(c.waits)
	}
	text, err := json.Marshal(got)
	if err != nil {
		panic(err) // it is a struct of numbers
	}
	return response(text)
}

// eventID returns an id in the form of a UUID: the first half is the time of publishing in Unix
// nanoseconds, the second the event's sequence number.
func eventID(now time.Time, seq int) string {
	h := fmt.Sprintf("%016x%016x", now.UnixNano(), seq)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// In the metadata, at the end of the body, the id follows the type.
var idStart = []byte(`.enrollment.created.v1", "id": "`)

// parseID reads the id out of a delivery's body.
func parseID(body []byte) (published time.Time, seq int, ok bool) {
	i := bytes.LastIndex(body, idStart)
	if i < 0 || len(body) < i+len(idStart)+36 {
		return published, 0, false
	}
	digits := bytes.ReplaceAll(body[i+len(idStart):][:36], []byte("-"), nil)
	var raw [16]byte
	if len(digits) != 2*len(raw) {
		return published, 0, false
	}
	if _, err := hex.Decode(raw[:], digits); err != nil {
		return published, 0, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(raw[:]))), int(binary.BigEndian.Uint64(raw[8:])), true
}
