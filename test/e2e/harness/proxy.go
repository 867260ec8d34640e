//go:build e2e

package harness

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy is a TCP proxy between the daemon and a server. It simulates outages: connections refused,
// a server that goes silent, wrong answers, or a connection cut in the middle of a chosen
// statement.
type Proxy struct {
	Address string // where it listens
	target  string // the server

	mu       sync.Mutex // guards what follows
	listener net.Listener
	links    map[*Link]struct{}
	open     chan struct{} // closed unless the proxy is silent
	instead  string        // not empty: the answer to every request
	cut      func(l *Link, query string) Cut

	serving sync.WaitGroup
}

// Link is one connection through a proxy.
type Link struct {
	client, server net.Conn
	ended          chan struct{}
	once           sync.Once
	answerCut      atomic.Bool // the server's next bytes end the connection

	Queries []string // since START TRANSACTION; only the goroutine that reads from the client uses it
}

// Cut says where a connection is cut.
type Cut int

// The places of a cut.
const (
	CutNowhere Cut = iota
	CutBefore      // the server never gets the statement
	CutDuring      // the server gets it, and loses its client at once
	CutAfter       // the server has carried it out; its answer is lost
)

// NewProxy starts a proxy for the server at target. It ends with the test.
func NewProxy(t *testing.T, target string) *Proxy {
	t.Helper()
	p := &Proxy{
		target: target, links: map[*Link]struct{}{}, open: make(chan struct{}),
		Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePorts(1))),
	}
	close(p.open)
	t.Cleanup(func() {
		p.Refuse()
		p.serving.Wait()
	})
	p.Restore(t)
	return p
}

// Refuse acts as if the server's process had died: connections are reset, new ones refused.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	listener := p.listener
	p.listener = nil
	p.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	p.Reset()
}

// Silence acts as if the server's cable had been pulled: nothing is answered or refused.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

// Answer acts like a load balancer without a backend: every request gets the same bytes.
func (p *Proxy) Answer(instead string) {
	p.mu.Lock()
	p.instead = instead
	p.mu.Unlock()
	p.Reset()
}

// Cutting lets f decide about every statement of the MySQL protocol. Existing connections are
// reset.
func (p *Proxy) Cutting(f func(l *Link, query string) Cut) {
	p.mu.Lock()
	p.cut = f
	p.mu.Unlock()
	p.Reset()
}

// Restore ends the outage. Connections that were silent are reset, as by a host that has restarted.
func (p *Proxy) Restore(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	p.instead, p.cut = "", nil
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
	default:
		p.Reset()
		close(open)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	p.listener = l
	p.serving.Go(func() { p.serve(l) })
}

// Reset ends all connections.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end()
	}
}

func (p *Proxy) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.connect(client) })
	}
}

func (p *Proxy) connect(client net.Conn) {
	l := &Link{client: client, ended: make(chan struct{})}
	p.mu.Lock()
	p.links[l] = struct{}{}
	listening, instead, cut := p.listener != nil, p.instead, p.cut
	p.mu.Unlock()
	defer func() {
		l.end()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	if !listening || !p.pass(l) {
		return
	}
	if instead != "" {
		if _, err := client.Read(make([]byte, 4096)); err == nil {
			_, _ = io.WriteString(client, instead)
			_, _ = io.Copy(io.Discard, client)
		}
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	l.server = server
	var answers sync.WaitGroup
	answers.Go(func() {
		defer l.end()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if err != nil || l.answerCut.Load() || !p.pass(l) {
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	if cut != nil {
		p.statements(l, cut)
	} else {
		p.bytes(l)
	}
	l.end()
	_ = server.Close()
	answers.Wait()
}

// bytes forwards what the client sends.
func (p *Proxy) bytes(l *Link) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buffer)
		if err != nil || !p.pass(l) {
			return
		}
		if _, err := l.server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// statements forwards what a MySQL client sends, packet by packet, and asks cut about each
// statement.
func (p *Proxy) statements(l *Link, cut func(*Link, string) Cut) {
	const query = 3
	client := bufio.NewReaderSize(l.client, 64<<10)
	for {
		var head [4]byte
		if _, err := io.ReadFull(client, head[:]); err != nil {
			return
		}
		packet := make([]byte, 4+int(head[0])+int(head[1])<<8+int(head[2])<<16)
		copy(packet, head[:])
		if _, err := io.ReadFull(client, packet[4:]); err != nil {
			return
		}
		where := CutNowhere
		if head[3] == 0 && len(packet) > 5 && packet[4] == query {
			text := string(packet[5:])
			if strings.HasPrefix(text, "START TRANSACTION") {
				l.Queries = nil
			}
			where = cut(l, text)
			l.Queries = append(l.Queries, text)
		}
		if where == CutBefore || !p.pass(l) {
			return
		}
		l.answerCut.Store(where == CutAfter)
		if _, err := l.server.Write(packet); err != nil || where == CutDuring {
			return
		}
	}
}

// pass waits while the proxy is silent, and reports whether the connection is still open.
func (p *Proxy) pass(l *Link) bool {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-l.ended:
		return false
	default:
	}
	select {
	case <-open:
		return true
	case <-l.ended:
		return false
	}
}

// end resets the client's connection; the goroutines then close the server's.
func (l *Link) end() {
	l.once.Do(func() {
		close(l.ended)
		if c, ok := l.client.(*net.TCPConn); ok {
			_ = c.SetLinger(0)
		}
		_ = l.client.Close()
	})
}

// Through returns the setting that makes a daemon reach the site's database through p.
func (s *Site) Through(p *Proxy) string {
	return "WEBHOOK_DISPATCHER_MYSQL_DSN=" + strings.Replace(s.DSN("dispatcher_serve"), s.MariaDB.Address(), p.Address, 1)
}
