// Package store holds every SQL statement of the dispatcher: the queue of deliveries, the attempt
// log, undecodable records, known topics, the plugin's rules, and the migrations.
//
// Each method does all it says or returns an error, and may be called again after an error. All
// times are the database's, in UTC. Statements run unchanged on MariaDB from 10.6, MySQL from 8.0
// and the embedded database. The structure of the plugin's tables is never changed, and their rows
// only by what adds, changes or switches a rule.
//
// When to claim, retry or prune, and what a rule means, is decided elsewhere. Errors hold no column
// values: those are learners' data.
package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/time/rate"
	gormmysql "gorm.io/driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/dsn"
)

// Defaults of Options.
const (
	DefaultMaxOpenConns = 10
	dialTimeout         = 5 * time.Second
	// ioTimeout ends the wait for a silent server. It is above lockWait, so that a lock wait ends
	// with the server's answer and the connection survives.
	ioTimeout = 30 * time.Second
	lockWait  = 5 * time.Second
	// connLifetime bounds how long a connection outlives a change of the server behind its name.
	connLifetime = 5 * time.Minute
	connIdle     = time.Minute
)

// Options say which database to use, and how.
type Options struct {
	// DSN is what dsn.Parse reads. Required.
	DSN string
	// Logger gets retries and the driver's own words, never values. Nil discards.
	Logger *slog.Logger
	// MaxOpenConns bounds connections; 0 means DefaultMaxOpenConns. The database belongs to the LMS.
	MaxOpenConns int
	// TLS, where set, is used in place of the DSN's tls parameter.
	TLS *tls.Config
}

// Store is a database of the dispatcher. Its methods may be called from any goroutine.
type Store struct {
	db     *sql.DB
	gorm   *gorm.DB
	log    *slog.Logger
	target string
	// packet is max_allowed_packet as the newest connection found it; 0 before the first.
	packet   *atomic.Int64
	refusals rate.Sometimes // logged
	refused  atomic.Int64   // rows that the server refused since the last line
}

// Open returns a Store. It does not connect: Ping and CheckSchema find out whether the database is
// there, and it may come back at any time.
func Open(o Options) (*Store, error) {
	return open(o, ioTimeout)
}

func open(o Options, readTimeout time.Duration) (*Store, error) {
	if o.MaxOpenConns < 0 {
		// database/sql takes a negative number for "no limit".
		return nil, fmt.Errorf("open database: MaxOpenConns is %d, want 0 or more", o.MaxOpenConns)
	}
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
		// The error is not passed on: it may hold parts of the DSN.
		return nil, errors.New("open database: the driver refuses the DSN's parameters")
	}
	packet := new(atomic.Int64)
	db := sql.OpenDB(&connector{Connector: inner, packet: packet})
	limit := cmp.Or(o.MaxOpenConns, DefaultMaxOpenConns)
	db.SetMaxOpenConns(limit)
	db.SetMaxIdleConns(limit)
	db.SetConnMaxLifetime(connLifetime)
	db.SetConnMaxIdleTime(connIdle)
	// GORM's log would hold statements with their values.
	orm, err := gorm.Open(gormmysql.New(gormmysql.Config{
		Conn: db, SkipInitializeWithVersion: true, DisableWithReturning: true,
	}), &gorm.Config{
		Logger: logger.Discard, SkipDefaultTransaction: true, DisableAutomaticPing: true, DisableNestedTransaction: true,
		QueryFields: true, // a later version of the plugin may add columns
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", clean(err)), db.Close())
	}
	return &Store{
		db: db, gorm: orm, log: log, target: cfg.Addr + "/" + cfg.DBName, packet: packet,
		refusals: rate.Sometimes{Interval: time.Minute},
	}, nil
}

// enforce sets what the statements of this package rely on, whatever the DSN says.
func enforce(cfg *mysql.Config, o Options, log *slog.Logger, readTimeout time.Duration) error {
	// The driver fills in placeholders, which saves two round trips a statement. That is safe
	// because the connection's character set is UTF-8 and the driver knows from the server whether
	// NO_BACKSLASH_ESCAPES is set, which our sql_mode does not.
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
	// Affected rows are rows changed, not rows matched: nothing relies on more.
	cfg.ClientFoundRows = false
	// After a failover the old primary is read-only: leave it.
	cfg.RejectReadOnly = true
	// 0 makes the driver ask the server, and refuse larger statements instead of losing the
	// connection over them.
	cfg.MaxAllowedPacket = 0
	cfg.Logger = driverLog{log}
	cfg.Timeout = cmp.Or(cfg.Timeout, dialTimeout)
	cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, readTimeout)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, ioTimeout)
	if o.TLS != nil {
		cfg.TLS = o.TLS.Clone()
		if cfg.TLS.ServerName == "" {
			cfg.TLS.ServerName = cfg.Addr
			if host, _, err := net.SplitHostPort(cfg.Addr); err == nil {
				cfg.TLS.ServerName = host
			}
		}
	}
	return nil
}

// driverLog passes on the driver's messages about connections.
type driverLog struct{ log *slog.Logger }

// Print implements mysql.Logger.
func (l driverLog) Print(v ...any) { l.log.Debug("mysql driver", "message", fmt.Sprint(v...)) }

// Close closes all connections. Calls under way end with an error.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// Target returns host:port/database, for logs.
func (s *Store) Target() string { return s.target }

// Ping asks whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("ping database %s: %w", s.target, clean(err))
	}
	return nil
}

// Limits of what a statement may hold.
const (
	maxMediumBlob = 1<<24 - 1
	// assumedPacket holds until the first connection: no supported server has less by default.
	assumedPacket = 16 << 20
	// overhead is more than a statement for one row takes without the row's body.
	overhead = 8 << 10
	maxRows  = 500
)

func (s *Store) maxPacket() int {
	if n := s.packet.Load(); n > 0 {
		return int(min(n, math.MaxInt32))
	}
	return assumedPacket
}

// MaxBody returns the largest body that fits a row, in bytes. It follows max_allowed_packet of the server.
func (s *Store) MaxBody() int {
	// Half of it, since every byte may need an escape in the statement.
	return max(0, min(maxMediumBlob, (s.maxPacket()-overhead)/2))
}
