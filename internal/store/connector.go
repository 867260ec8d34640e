package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"
)

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
	// The embedded database lacks this variable, which only affects how soon lock waits are
	// retried.
	var refused *mysql.MySQLError
	wait := fmt.Sprintf("SET SESSION innodb_lock_wait_timeout = %d", int(lockWait.Seconds()))
	if _, err := session.ExecContext(ctx, wait, nil); err != nil && !errors.As(err, &refused) {
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
	switch v := value[0].(type) {
	case int64:
		return v, nil
	case uint64:
		return int64(min(v, 1<<62)), nil
	case []byte:
		return strconv.ParseInt(string(v), 10, 64)
	}
	return 0, fmt.Errorf("unexpected %T", value[0])
}
