package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Numbers of server errors, the same on MariaDB and MySQL.
const (
	errUnknownColumn   = 1054
	errNoTable         = 1146
	errTableDenied     = 1142
	errColumnDenied    = 1143
	errLockWait        = 1205
	errDeadlock        = 1213
	errRecordChanged   = 1020 // MariaDB with innodb_snapshot_isolation
	errPacketTooLarge  = 1153
	errOutOfRange      = 1264
	errIncorrectString = 1366
	errDataTooLong     = 1406
	errIncorrectValue  = 1292
)

// plainErrors are those whose text names accounts, tables, columns and server states, and never a value.
var plainErrors = [...]uint16{
	1040, 1044, 1045, 1046, 1049, 1053, 1129, 1130, 1203, 1226, // connections and accounts
	1021, 1030, 1114, 1290, 1317, 1836, 1927, 3024, // the server cannot or may not
	errUnknownColumn, errNoTable, errTableDenied, errColumnDenied, errLockWait, errDeadlock, errRecordChanged,
	errPacketTooLarge, errDataTooLong, errOutOfRange,
}

// serverError is an answer of the server without its text where that may quote a value.
type serverError struct{ cause *mysql.MySQLError }

// Error implements error.
func (e *serverError) Error() string {
	if slices.Contains(plainErrors[:], e.cause.Number) {
		return e.cause.Error()
	}
	return fmt.Sprintf("Error %d (%s)", e.cause.Number, e.cause.SQLState[:])
}

// Unwrap lets callers look at the number.
func (e *serverError) Unwrap() error { return e.cause }

// clean takes out of err what may quote values.
func clean(err error) error {
	if cause := serverErrorOf(err); cause != nil {
		return &serverError{cause: cause}
	}
	return err
}

func serverErrorOf(err error) *mysql.MySQLError {
	if cause, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return cause
	}
	return nil
}

func isNumber(err error, numbers ...uint16) bool {
	cause := serverErrorOf(err)
	return cause != nil && slices.Contains(numbers, cause.Number)
}

// Retries of what the server undid because of other transactions: the first waits about retryBase, each next twice as long.
const (
	maxRetries = 6
	retryBase  = 5 * time.Millisecond
)

// retry runs f again after a deadlock or a lock wait, which leave nothing of f behind. Any other error is returned at
// once: after a lost connection it is open what was done, and waiting is the caller's to decide.
func (s *Store) retry(ctx context.Context, what string, f func() error) error {
	for n := 0; ; n++ {
		err := f()
		if err == nil {
			return nil
		}
		if n == maxRetries || !isNumber(err, errDeadlock, errLockWait, errRecordChanged) {
			return fmt.Errorf("%s: %w", what, clean(err))
		}
		s.log.DebugContext(ctx, "database statement undone by another, trying again", "what", what, "try", n+1, "error", clean(err))
		wait := time.NewTimer(time.Duration(float64(retryBase<<n) * (0.5 + rand.Float64())))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("%s: %w", what, errors.Join(clean(err), ctx.Err()))
		}
	}
}

// transaction runs f in one transaction, and again as retry does.
func (s *Store) transaction(ctx context.Context, what string, f func(tx *sql.Tx) error) error {
	return s.retry(ctx, what, func() error {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			// A rollback that fails, fails because the connection is gone, and the transaction with it.
			_ = tx.Rollback()
			return err
		}
		return tx.Commit()
	})
}

// exec runs one statement by itself and returns how many rows it changed, and again as retry does.
func (s *Store) exec(ctx context.Context, what, statement string, args ...any) (changed int, err error) {
	err = s.retry(ctx, what, func() error {
		result, err := s.db.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		changed = int(n)
		return err
	})
	return changed, err
}
