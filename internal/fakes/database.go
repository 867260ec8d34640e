package fakes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	gmssql "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/variables"
	"github.com/dolthub/vitess/go/mysql"
	"github.com/dolthub/vitess/go/sqltypes"
	"github.com/sirupsen/logrus"
)

// DatabaseName is the database that a Database starts with.
const DatabaseName = "app"

// Database is a MySQL-compatible server in memory, whose data is gone after Close. It runs one
// transaction at a time, because the engine loses concurrent updates and ignores SKIP LOCKED.
type Database struct {
	listener *trackingListener
	server   *server.Server
	engine   *sqle.Engine
	accept   chan struct{} // closed when the accept loop has ended
	close    func() error
}

// StartDatabase starts a server on a free port of 127.0.0.1. It silences logrus' standard logger
// for the whole process, as the engine logs each connection.
func StartDatabase() (*Database, error) {
	logrus.SetOutput(io.Discard)
	raw, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start embedded database: %w", err)
	}
	listener := &trackingListener{Listener: raw, conns: make(map[net.Conn]struct{})}
	db := memory.NewDatabase(DatabaseName)
	db.EnablePrimaryKeyIndexes()
	provider := memory.NewDBProvider(db)
	shareStatus()
	engine := sqle.NewDefault(provider)
	srv, err := server.NewServerWithHandler(server.Config{
		Protocol:          "tcp",
		Address:           "", // else the server finds the listener's address in use
		Listener:          listener,
		Version:           "8.0.33-embedded",
		MaxLoggedQueryLen: -1, // queries contain payloads
	}, engine, gmssql.NewContext, memory.NewSessionBuilder(provider), nil, serialize)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start embedded database: %w", err), engine.Close(), raw.Close())
	}
	d := &Database{listener: listener, server: srv, engine: engine, accept: make(chan struct{})}
	d.close = sync.OnceValue(d.stop)
	go func() {
		defer close(d.accept)
		_ = srv.Start() // its error is the closed listener
	}()
	return d, nil
}

// shareStatus prevents a data race: a new engine resets the status variables, which all engines of
// a process share, without a lock.
var shareStatus = sync.OnceFunc(func() {
	variables.InitStatusVariables()
	gmssql.StatusVariables = keptStatus{gmssql.StatusVariables}
})

// keptStatus cannot be reset.
type keptStatus struct{ gmssql.StatusVariableRegistry }

// SetGlobal implements gmssql.StatusVariableRegistry.
func (keptStatus) SetGlobal(string, any) error { return nil }

// Addr returns the host and port that the server listens on.
func (d *Database) Addr() string { return d.listener.Addr().String() }

// DSN returns the DSN of the database for the Go MySQL driver.
func (d *Database) DSN() string { return "root@tcp(" + d.Addr() + ")/" + DatabaseName }

// Close stops the server and cuts its connections. A second call does nothing.
func (d *Database) Close() error { return d.close() }

func (d *Database) stop() error {
	err := d.server.Close()
	<-d.accept
	d.listener.cut()
	// The engine reports the end of its own context as an error.
	if closed := d.engine.Close(); !errors.Is(closed, context.Canceled) {
		err = errors.Join(err, closed)
	}
	return err
}

// trackingListener tracks open connections, which the server's Close does not close.
type trackingListener struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup // open connections
}

// Accept implements net.Listener.
func (l *trackingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tracked := &trackedConn{Conn: conn}
	l.mu.Lock()
	l.conns[tracked] = struct{}{}
	l.mu.Unlock()
	l.wg.Add(1)
	tracked.closed = sync.OnceValue(func() error {
		l.mu.Lock()
		delete(l.conns, tracked)
		l.mu.Unlock()
		defer l.wg.Done()
		return conn.Close()
	})
	return tracked, nil
}

// cut closes open connections and waits for the server to release them.
func (l *trackingListener) cut() {
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close()
	}
	l.wg.Wait()
}

type trackedConn struct {
	net.Conn
	closed func() error
}

// Close implements net.Conn.
func (c *trackedConn) Close() error { return c.closed() }

// serialHandler runs one transaction at a time. On commit, the memory engine writes back whole
// tables, so the changes of a concurrent transaction would be lost.
type serialHandler struct {
	mysql.Handler
	turn chan struct{} // holds a token while no connection has the turn

	mu     sync.Mutex
	holder *mysql.Conn // the connection with an open transaction, or nil
}

func serialize(next mysql.Handler) (mysql.Handler, error) {
	h := &serialHandler{Handler: next, turn: make(chan struct{}, 1)}
	h.turn <- struct{}{}
	return h, nil
}

// ComQuery implements mysql.Handler.
func (h *serialHandler) ComQuery(ctx context.Context, c *mysql.Conn, query string, callback mysql.ResultSpoolFn) error {
	return h.inTurn(ctx, c, query, func() error { return h.Handler.ComQuery(ctx, c, query, callback) })
}

// ComMultiQuery implements mysql.Handler.
func (h *serialHandler) ComMultiQuery(
	ctx context.Context, c *mysql.Conn, query string, callback mysql.ResultSpoolFn,
) (rest string, err error) {
	err = h.inTurn(ctx, c, query, func() error {
		rest, err = h.Handler.ComMultiQuery(ctx, c, query, callback)
		return err
	})
	return rest, err
}

// ComStmtExecute implements mysql.Handler.
func (h *serialHandler) ComStmtExecute(
	ctx context.Context, c *mysql.Conn, prepare *mysql.PrepareData, callback func(*sqltypes.Result) error,
) error {
	return h.inTurn(ctx, c, prepare.PrepareStmt, func() error { return h.Handler.ComStmtExecute(ctx, c, prepare, callback) })
}

// ConnectionClosed implements mysql.Handler. It rolls back an open transaction.
func (h *serialHandler) ConnectionClosed(c *mysql.Conn) {
	h.Handler.ConnectionClosed(c)
	h.mu.Lock()
	held := h.holder == c
	if held {
		h.holder = nil
	}
	h.mu.Unlock()
	if held {
		h.turn <- struct{}{}
	}
}

func (h *serialHandler) inTurn(ctx context.Context, c *mysql.Conn, query string, run func() error) error {
	verb := strings.ToUpper(strings.TrimSpace(query[:min(len(query), 64)]))
	if strings.Contains(verb, "GET_LOCK(") || strings.Contains(verb, "SLEEP(") {
		return run() // waits for other connections, so it must not block them
	}
	h.mu.Lock()
	held := h.holder == c
	h.mu.Unlock()
	if !held {
		select {
		case <-h.turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := run()
	switch {
	case strings.HasPrefix(verb, "START TRANSACTION"), strings.HasPrefix(verb, "BEGIN"):
		held = err == nil
	case strings.HasPrefix(verb, "COMMIT"), strings.HasPrefix(verb, "ROLLBACK"):
		held = false
	}
	h.mu.Lock()
	h.holder = nil
	if held {
		h.holder = c
	}
	h.mu.Unlock()
	if !held {
		h.turn <- struct{}{}
	}
	return err
}
