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

// Proxy stands between the daemon and a server and takes the server away: as one that refuses, as one that says nothing any more, as
// one that says something else, or in the middle of a chosen statement.
type Proxy struct {
	Address string // where it listens
	target  string // what it stands for

	mu       sync.Mutex // guards what follows
	listener net.Listener
	links    map[*Link]struct{}
	open     chan struct{} // closed while bytes are passed on
	instead  string        // not empty: the answer to whatever is asked
	cut      func(l *Link, query string) Cut

	serving sync.WaitGroup
}

// Link is one connection through a proxy.
type Link struct {
	client, server net.Conn
	ended          chan struct{}
	once           sync.Once
	answerCut      atomic.Bool // the server's next word ends the connection

	Queries []string // statements since START TRANSACTION; the goroutine that reads the client's alone uses it
}

// Cut says where a connection breaks off.
type Cut int

const (
	CutNowhere Cut = iota
	CutBefore      // the server never gets the statement
	CutDuring      // the server gets it, and loses its client at once
	CutAfter       // the server has carried it out; its answer is lost
)

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

// Refuse takes the server away as if its process had died: connections are reset, new ones refused.
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

// Silence takes the server away as if its cable had been pulled: nobody answers, nobody refuses.
func (p *Proxy) Silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

// Answer takes the server away as a load balancer does that finds none behind it: the same bytes for everybody.
func (p *Proxy) Answer(instead string) {
	p.mu.Lock()
	p.instead = instead
	p.mu.Unlock()
	p.Reset()
}

// Cutting lets f decide about each statement of the MySQL protocol from now on, on connections made from now on.
func (p *Proxy) Cutting(f func(l *Link, query string) Cut) {
	p.mu.Lock()
	p.cut = f
	p.mu.Unlock()
	p.Reset()
}

// Restore gives the server back. Connections that were silent are reset, as by a host that has started anew.
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

// bytes passes on what the client says.
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

// statements passes on what a client of MySQL says, packet by packet, and asks cut about each statement.
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

// pass waits while the proxy is silent, and returns false when the connection has ended.
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

// end resets the client and closes the way to the server once its goroutines notice.
func (l *Link) end() {
	l.once.Do(func() {
		close(l.ended)
		if c, ok := l.client.(*net.TCPConn); ok {
			_ = c.SetLinger(0)
		}
		_ = l.client.Close()
	})
}

// Through returns the settings that lead a daemon of the site to its database by way of p.
func (s *Site) Through(p *Proxy) string {
	return "WEBHOOK_DISPATCHER_MYSQL_DSN=" + strings.Replace(s.DSN("dispatcher_serve"), s.MariaDB.Address(), p.Address, 1)
}
