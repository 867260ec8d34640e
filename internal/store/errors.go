package store

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
)

// Server errors of MariaDB and MySQL.
const (
	errDatabaseDenied  = 1044
	errAccessDenied    = 1045
	errUnknownDatabase = 1049
	errUnknownColumn   = 1054
	errDuplicate       = 1062
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
	errUnknownVariable = 1193
)

// parameterErrors are errors of the SET statement that the driver makes of unknown DSN parameters:
// an unknown, read-only, global or restricted variable, a bad value, or invalid SQL.
var parameterErrors = [...]uint16{errUnknownVariable, 1064, 1115, 1227, 1229, 1231, 1232, 1238, 1273, 1298}

// parameterError is a server's error about the DSN's parameters.
type parameterError struct{ error }

// Unwrap returns the cause.
func (e *parameterError) Unwrap() error { return e.error }

// plainErrors are errors whose text never contains values of columns.
var plainErrors = [...]uint16{
	1040, errDatabaseDenied, errAccessDenied, 1046, errUnknownDatabase, 1053, 1129, 1130, 1203, 1226, // connections, accounts
	1021, 1030, 1114, 1290, 1317, 1836, 1927, 3024, // server states
	errUnknownColumn, errNoTable, errTableDenied, errColumnDenied, errLockWait, errDeadlock, errRecordChanged,
	errPacketTooLarge, errDataTooLong, errOutOfRange,
}

// serverError is a server's error without text that may quote values, and with what to do if known.
type serverError struct {
	cause     *mysql.MySQLError
	parameter bool // about a parameter after ? of the DSN
	bare      bool // without what to do
}

// Error implements error.
func (e *serverError) Error() string {
	if !slices.Contains(plainErrors[:], e.cause.Number) {
		text := fmt.Sprintf("Error %d (%s)", e.cause.Number, e.cause.SQLState[:])
		switch {
		case e.parameter && e.cause.Number == errUnknownVariable:
			text += ": the server does not know a parameter after ? of " + dsnSetting + ": remove it"
		case e.parameter:
			text += ": the server refuses the value of a parameter after ? of " + dsnSetting + ": correct or remove it"
		case e.cause.Number == errIncorrectString:
			text += ": the table's character set lacks a character: replace it"
		}
		return text
	}
	if fix := e.fix(); fix != "" && !e.bare {
		return e.cause.Error() + ": " + fix
	}
	return e.cause.Error()
}

// fix says what to do.
func (e *serverError) fix() string {
	switch e.cause.Number {
	case errAccessDenied:
		return "check user and password in " + dsnSetting + ", and the hosts from which the account may connect"
	case errDatabaseDenied:
		return "GRANT the account its rights on this database, or name another in " + dsnSetting
	case errUnknownDatabase:
		return "name the LMS's database in " + dsnSetting + ", or create it"
	case errNoTable:
		switch {
		case strings.Contains(e.cause.Message, tablePrefix):
			return "run `webhook-dispatcher migrate`"
		case pluginTable(e.cause.Message) != "":
			return noPluginTable
		}
	case errTableDenied, errColumnDenied:
		if table := pluginTable(e.cause.Message); table != "" {
			return "GRANT " + pluginRights(e.cause.Message) + " ON " + table + " TO the account"
		}
		// Without rights on a table the server does not say whether it exists.
		if strings.Contains(e.cause.Message, tablePrefix) {
			return "run `webhook-dispatcher migrate` if it has not been run since the upgrade, then " +
				"GRANT SELECT, INSERT, UPDATE, DELETE ON that table TO the account"
		}
	}
	return ""
}

// pluginTable returns the plugin's table that a server's message names, or "".
func pluginTable(message string) string {
	for _, table := range [...]string{webhook{}.TableName(), webfilter{}.TableName()} {
		if strings.Contains(message, table) {
			return table
		}
	}
	return ""
}

// pluginRights returns the rights to grant on a plugin's table. Adding rows implies enabling them,
// and changing them implies reading.
func pluginRights(message string) string {
	// Such as "SELECT", "INSERT" or "SELECT with locking clause".
	switch command, _, _ := strings.Cut(message, " command denied"); {
	case command == "SELECT":
		return "SELECT"
	case strings.Contains(command, "INSERT"):
		return "SELECT, INSERT, UPDATE"
	}
	return "SELECT, UPDATE"
}

// denied adds the missing rights to an error of migrate.
func denied(err error) error {
	if isNumber(err, errTableDenied, errDatabaseDenied) {
		return fmt.Errorf("%w: migrate needs an account with CREATE, ALTER, INDEX, SELECT, INSERT and UPDATE on the database, unlike serve",
			bare(clean(err)))
	}
	return clean(err)
}

// Unwrap returns the cause.
func (e *serverError) Unwrap() error { return e.cause }

const (
	dsnSetting  = "WEBHOOK_DISPATCHER_MYSQL_DSN"
	caSetting   = "WEBHOOK_DISPATCHER_MYSQL_CA_FILE"
	tablePrefix = "webhook_dispatcher_"

	noPluginTable = "install the plugin openedx-webhooks in the LMS and run its migrations, or name the LMS's database in " + dsnSetting +
		", or, without an LMS, run `webhook-dispatcher migrate --with-plugin-tables`"
)

// settingError is a failed connection and the setting to check.
type settingError struct {
	cause error
	fix   string
}

// Error implements error.
func (e *settingError) Error() string { return e.cause.Error() + ": " + e.fix }

// Unwrap returns the cause.
func (e *settingError) Unwrap() error { return e.cause }

// connectFix says what to do about a failed connection, or returns "".
func connectFix(err error) string {
	if cause, ok := errors.AsType[*net.OpError](err); ok && cause.Op == "dial" {
		return "check that the server is running, and host and port in " + dsnSetting
	}
	if errors.Is(err, mysql.ErrNoTLS) {
		return "remove tls from " + dsnSetting + ", and " + caSetting + " if it is set, or have the server offer TLS"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "check the host in " + dsnSetting + ", and set " + caSetting + " to a PEM file of the CA that signs the server's certificate"
	}
	return ""
}

// clean removes text that may quote values from err, and adds what to do. It can be applied
// repeatedly.
func clean(err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*serverError](err); done {
		return err
	}
	if cause := serverErrorOf(err); cause != nil {
		_, parameter := errors.AsType[*parameterError](err)
		return &serverError{cause: cause, parameter: parameter}
	}
	if _, done := errors.AsType[*settingError](err); done {
		return err
	}
	if fix := connectFix(err); fix != "" {
		return &settingError{err, fix}
	}
	return err
}

// bare removes what to do, for callers that know better.
func bare(err error) error {
	if e, ok := errors.AsType[*serverError](err); ok {
		e.bare = true
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

// Retries of statements that the server rolled back because of others.
const (
	maxRetries = 6
	retryBase  = 5 * time.Millisecond
)

// retry runs f again after a deadlock, a lock wait timeout or a concurrent insert of the same row,
// which leave nothing behind. Other errors are returned at once: after a lost connection the
// outcome is unknown, and waiting is up to the caller.
func (s *Store) retry(ctx context.Context, what string, f func() error) error {
	wait := backoff.Backoff{Min: retryBase}
	for n := 0; ; n++ {
		err := f()
		if err == nil {
			return nil
		}
		if n == maxRetries || !isNumber(err, errDeadlock, errLockWait, errRecordChanged, errDuplicate) {
			return fmt.Errorf("%s: %w", what, clean(err))
		}
		s.log.DebugContext(ctx, "database statement rolled back because of another, retrying", "what", what, "try", n+1, "error", clean(err))
		if ended := wait.Wait(ctx); ended != nil {
			return fmt.Errorf("%s: %w", what, errors.Join(clean(err), ended))
		}
	}
}

// transaction runs f in one transaction, with retry.
func (s *Store) transaction(ctx context.Context, what string, f func(tx *sql.Tx) error) error {
	return s.transactionAt(ctx, sql.LevelDefault, what, f)
}

// transactionAt is transaction with another isolation level.
func (s *Store) transactionAt(ctx context.Context, level sql.IsolationLevel, what string, f func(tx *sql.Tx) error) error {
	return s.retry(ctx, what, func() error {
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: level})
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			_ = tx.Rollback() // fails only if the connection is gone, and with it the transaction
			return err
		}
		return tx.Commit()
	})
}

// exec runs a statement outside a transaction, with retry, and returns how many rows it changed.
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
