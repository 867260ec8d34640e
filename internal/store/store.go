// Package store holds every SQL statement of the dispatcher: the queue, the attempt log,
// undecodable records, topics, the plugin's rules, and migrations.
//
// Each method either does everything it says or returns an error, and may be called again after
// one. All times are the database's, in UTC. Statements run unchanged on MariaDB from 10.6, MySQL
// from 8.0 and the embedded database. The plugin's tables are only read, except to add, change or
// switch a rule; their structure is never touched.
//
// When to claim, retry or prune, and what a rule means, is up to others. Errors contain no values
// of columns, which hold learners' data.
package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/time/rate"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/dsn"
)

const (
	maxConns    = 10 // few, as the database is the LMS's
	dialTimeout = 5 * time.Second
	// ioTimeout is for a server that has vanished. It exceeds lockWait, so that a lock wait ends
	// with the server's answer and keeps the connection.
	ioTimeout    = 30 * time.Second
	lockWait     = 5 * time.Second
	connLifetime = 5 * time.Minute // to notice a new server behind the name (failover, rotation)
	connIdle     = time.Minute
)

// Options configure a Store.
type Options struct {
	DSN    string       // for dsn.Parse; required
	Logger *slog.Logger // gets migrations, retries and the driver's messages, never values; nil discards
	TLS    *tls.Config  // replaces the DSN's tls parameter unless nil
}

// Store is the dispatcher's database. It is safe for concurrent use.
type Store struct {
	db     *sql.DB
	gorm   *gorm.DB
	log    *slog.Logger
	target string
	packet *atomic.Int64 // max_allowed_packet of the newest connection; 0 before the first

	refusals rate.Sometimes // log lines
	refused  atomic.Int64   // rows since the last line
}

// Open checks o and returns a store without connecting. If the database is not reachable Ping and
// CheckSchema say so, and the Store works once it is.
func Open(o Options) (*Store, error) { return open(o, ioTimeout) }

func open(o Options, readTimeout time.Duration) (*Store, error) {
	log := cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	cfg, err := dsn.Parse(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("open database: the DSN %w: %s", err, dsn.Forms)
	}
	if err := enforce(cfg, o, log, readTimeout); err != nil {
		return nil, err
	}
	inner, err := mysql.NewConnector(cfg)
	if err != nil {
		// The driver's error may contain parts of the DSN.
		return nil, errors.New("open database: the driver refuses the DSN's parameters")
	}
	packet := new(atomic.Int64)
	db := sql.OpenDB(&connector{Connector: inner, packet: packet})
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxLifetime(connLifetime)
	db.SetConnMaxIdleTime(connIdle)
	// GORM's log would contain values; errors reach the caller anyway.
	orm, err := gorm.Open(gormmysql.New(gormmysql.Config{Conn: db, SkipInitializeWithVersion: true}),
		&gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", clean(err)), db.Close())
	}
	return &Store{
		db: db, gorm: orm, log: log, target: cfg.Addr + "/" + cfg.DBName, packet: packet,
		refusals: rate.Sometimes{Interval: time.Minute},
	}, nil
}

// enforce sets what this package's statements rely on, whatever the DSN says.
func enforce(cfg *mysql.Config, o Options, log *slog.Logger, readTimeout time.Duration) error {
	// The driver fills in placeholders, which saves two round trips per statement. It is safe with
	// UTF-8 and a sql_mode without NO_BACKSLASH_ESCAPES.
	cfg.InterpolateParams = true
	cfg.Collation = ""
	if err := cfg.Apply(mysql.Charset("utf8mb4", "")); err != nil {
		return fmt.Errorf("open database: set character set: %w", err)
	}
	cfg.MultiStatements = false
	cfg.AllowAllFiles = false
	cfg.AllowOldPasswords = false
	cfg.ParseTime = true
	cfg.Loc = time.UTC
	cfg.ClientFoundRows = false // affected rows are rows changed, not matched
	cfg.RejectReadOnly = true   // leave the old primary after a failover
	cfg.MaxAllowedPacket = 0    // ask the server, and refuse larger statements before it does
	cfg.Logger = driverLog{log}
	cfg.Timeout = cmp.Or(cfg.Timeout, dialTimeout)
	cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, readTimeout)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, ioTimeout)
	if o.TLS != nil {
		cfg.TLS = o.TLS.Clone() // to which the driver adds the server's name
	}
	return nil
}

// driverLog logs the driver's messages about connections.
type driverLog struct{ log *slog.Logger }

// Print implements mysql.Logger.
func (l driverLog) Print(v ...any) { l.log.Debug("mysql driver", "message", fmt.Sprint(v...)) }

// connector sets up each new connection: strict, so that values are never cut to fit; in UTC; and
// READ COMMITTED, so that claims do not lock gaps that inserts need.
type connector struct {
	driver.Connector
	packet *atomic.Int64
}

const strictMode = "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok && slices.Contains(parameterErrors[:], refused.Number) {
		return nil, parameterError(refused)
	}
	if err != nil {
		return nil, err
	}
	if err := c.setUp(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (c *connector) setUp(ctx context.Context, conn driver.Conn) error {
	session, ok := conn.(interface {
		driver.ExecerContext
		driver.QueryerContext
	})
	if !ok {
		return fmt.Errorf("set up connection: the driver's %T cannot run statements", conn)
	}
	for _, statement := range [...]string{
		"SET SESSION sql_mode = '" + strictMode + "', time_zone = '+00:00'",
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	} {
		if _, err := session.ExecContext(ctx, statement, nil); err != nil {
			return fmt.Errorf("set up connection: %w", err)
		}
	}
	// The embedded database lacks this variable, which only affects how soon lock waits are retried.
	_, err := session.ExecContext(ctx, fmt.Sprintf("SET SESSION innodb_lock_wait_timeout = %d", int(lockWait.Seconds())), nil)
	if _, refused := errors.AsType[*mysql.MySQLError](err); err != nil && !refused {
		return fmt.Errorf("set up connection: %w", err)
	}
	n, err := readNumber(ctx, session, "SELECT @@max_allowed_packet")
	if err != nil {
		return fmt.Errorf("read max_allowed_packet: %w", err)
	}
	c.packet.Store(n)
	return nil
}

func readNumber(ctx context.Context, session driver.QueryerContext, query string) (n int64, err error) {
	rows, err := session.QueryContext(ctx, query, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil {
		return 0, err
	}
	err = orZero(&n).Scan(value[0])
	return n, err
}

// Close closes all connections; running calls return errors.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// Target returns host:port/database, for logs.
func (s *Store) Target() string { return s.target }

// Ping checks that the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("ping database %s: %w", s.target, clean(err))
	}
	return nil
}

// Limits of what a statement may hold.
const (
	maxMediumBlob = 1<<24 - 1
	assumedPacket = 16 << 20 // until the first connection: the lowest default of supported servers
	overhead      = 8 << 10  // bounds the bytes of a row without its body, escaped, and of its statement
	maxRows       = 500
)

func (s *Store) maxPacket() int {
	if n := s.packet.Load(); n > 0 {
		return int(min(n, math.MaxInt32))
	}
	return assumedPacket
}

// MaxBody returns the largest body in bytes that fits a row. It follows the server's
// max_allowed_packet, of which it takes half, as every byte may be escaped.
func (s *Store) MaxBody() int { return max(0, min(maxMediumBlob, (s.maxPacket()-overhead)/2)) }
