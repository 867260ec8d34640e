//go:build e2e

package e2e

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

// proxy stands between the daemon and a server and takes the server away: as one that refuses, as one that says nothing any more, as
// one that says something else, or in the middle of a chosen statement.
type proxy struct {
	address string // where it listens
	target  string // what it stands for

	mu       sync.Mutex // guards what follows
	listener net.Listener
	links    map[*link]struct{}
	open     chan struct{} // closed while bytes are passed on
	instead  string        // not empty: the answer to whatever is asked
	cut      func(l *link, query string) cut

	serving sync.WaitGroup
}

// link is one connection through a proxy.
type link struct {
	client, server net.Conn
	ended          chan struct{}
	once           sync.Once
	answerCut      atomic.Bool // the server's next word ends the connection

	queries []string // statements since START TRANSACTION; the goroutine that reads the client's alone uses it
}

// cut says where a connection breaks off.
type cut int

const (
	cutNowhere cut = iota
	cutBefore      // the server never gets the statement
	cutDuring      // the server gets it, and loses its client at once
	cutAfter       // the server has carried it out; its answer is lost
)

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{
		target: target, links: map[*link]struct{}{}, open: make(chan struct{}),
		address: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePorts(1))),
	}
	close(p.open)
	t.Cleanup(func() {
		p.refuse()
		p.serving.Wait()
	})
	p.restore(t)
	return p
}

// refuse takes the server away as if its process had died: connections are reset, new ones refused.
func (p *proxy) refuse() {
	p.mu.Lock()
	listener := p.listener
	p.listener = nil
	p.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	p.reset()
}

// silence takes the server away as if its cable had been pulled: nobody answers, nobody refuses.
func (p *proxy) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = make(chan struct{})
}

// answer takes the server away as a load balancer does that finds none behind it: the same bytes for everybody.
func (p *proxy) answer(instead string) {
	p.mu.Lock()
	p.instead = instead
	p.mu.Unlock()
	p.reset()
}

// cutting lets f decide about each statement of the MySQL protocol from now on, on connections made from now on.
func (p *proxy) cutting(f func(l *link, query string) cut) {
	p.mu.Lock()
	p.cut = f
	p.mu.Unlock()
	p.reset()
}

// restore gives the server back. Connections that were silent are reset, as by a host that has started anew.
func (p *proxy) restore(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	p.instead, p.cut = "", nil
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
	default:
		p.reset()
		close(open)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.listener = l
	p.serving.Go(func() { p.serve(l) })
}

// reset ends all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.end()
	}
}

func (p *proxy) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.connect(client) })
	}
}

func (p *proxy) connect(client net.Conn) {
	l := &link{client: client, ended: make(chan struct{})}
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
func (p *proxy) bytes(l *link) {
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
func (p *proxy) statements(l *link, cut func(*link, string) cut) {
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
		where := cutNowhere
		if head[3] == 0 && len(packet) > 5 && packet[4] == query {
			text := string(packet[5:])
			if strings.HasPrefix(text, "START TRANSACTION") {
				l.queries = nil
			}
			where = cut(l, text)
			l.queries = append(l.queries, text)
		}
		if where == cutBefore || !p.pass(l) {
			return
		}
		l.answerCut.Store(where == cutAfter)
		if _, err := l.server.Write(packet); err != nil || where == cutDuring {
			return
		}
	}
}

// pass waits while the proxy is silent, and returns false when the connection has ended.
func (p *proxy) pass(l *link) bool {
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
func (l *link) end() {
	l.once.Do(func() {
		close(l.ended)
		if c, ok := l.client.(*net.TCPConn); ok {
			_ = c.SetLinger(0)
		}
		_ = l.client.Close()
	})
}

// through returns the settings that lead a daemon of the site to its database by way of p.
func (s *site) through(p *proxy) string {
	return "WEBHOOK_DISPATCHER_MYSQL_DSN=" + strings.Replace(s.dsn("dispatcher_serve"), s.mariadb.address(), p.address, 1)
}
