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

// Numbers of server errors, the same on MariaDB and MySQL.
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

// parameterErrors are those of a SET statement, which the driver makes of the DSN's parameters that are not its own: a variable that is
// unknown, read-only, not the session's or not for this account, a value of the wrong kind or out of range, or what is no SQL.
var parameterErrors = [...]uint16{errUnknownVariable, 1064, 1115, 1227, 1229, 1231, 1232, 1238, 1273, 1298}

// parameterError is what a server says of the DSN's parameters.
type parameterError struct{ error }

// Unwrap lets callers look at the cause.
func (e *parameterError) Unwrap() error { return e.error }

// plainErrors are those whose text names accounts, tables, columns and server states, and never a value.
var plainErrors = [...]uint16{
	1040, errDatabaseDenied, errAccessDenied, 1046, errUnknownDatabase, 1053, 1129, 1130, 1203, 1226, // connections and accounts
	1021, 1030, 1114, 1290, 1317, 1836, 1927, 3024, // the server cannot or may not
	errUnknownColumn, errNoTable, errTableDenied, errColumnDenied, errLockWait, errDeadlock, errRecordChanged,
	errPacketTooLarge, errDataTooLong, errOutOfRange,
}

// serverError is an answer of the server without its text where that may quote a value, and with what to do about it where that is known.
type serverError struct {
	cause *mysql.MySQLError
	// parameter tells that the server refuses what the DSN has after its question mark.
	parameter bool
	// bare leaves out what to do.
	bare bool
}

// Error implements error.
func (e *serverError) Error() string {
	if !slices.Contains(plainErrors[:], e.cause.Number) {
		text := fmt.Sprintf("Error %d (%s)", e.cause.Number, e.cause.SQLState[:])
		switch {
		case e.parameter && e.cause.Number == errUnknownVariable:
			text += ": a parameter after ? of " + dsnSetting + " is no variable of the server: remove it"
		case e.parameter:
			text += ": the server does not take the value of a parameter after ? of " + dsnSetting + ": correct or remove it"
		case e.cause.Number == errIncorrectString:
			text += ": a character is none that the table's character set has: write another"
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
		return "check user and password in " + dsnSetting + ", and from which hosts the server lets this account in"
	case errDatabaseDenied:
		return "GRANT the account what it needs on this database, or name another in " + dsnSetting
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
		// A server does not say whether a table exists to an account without rights on it.
		if strings.Contains(e.cause.Message, tablePrefix) {
			return "run `webhook-dispatcher migrate` if it has not been run since the upgrade, then " +
				"GRANT SELECT, INSERT, UPDATE, DELETE ON that table TO the account"
		}
	}
	return ""
}

// pluginTable returns which of the plugin's tables a message of the server names, "" where none.
func pluginTable(message string) string {
	for _, table := range [...]string{webhook{}.TableName(), webfilter{}.TableName()} {
		if strings.Contains(message, table) {
			return table
		}
	}
	return ""
}

// pluginRights returns what an account needs on a table of the plugin that was denied it. Who may make rows also switches them, and whoever
// changes some reads them.
func pluginRights(message string) string {
	// Such as "SELECT", "INSERT", "SELECT, UPDATE" and "SELECT with locking clause".
	switch command, _, _ := strings.Cut(message, " command denied"); {
	case command == "SELECT":
		return "SELECT"
	case strings.Contains(command, "INSERT"):
		return "SELECT, INSERT, UPDATE"
	}
	return "SELECT, UPDATE"
}

// denied adds to an error of migrate which rights are missing, if that is what is wrong.
func denied(err error) error {
	if isNumber(err, errTableDenied, errDatabaseDenied) {
		return fmt.Errorf("%w: migrate needs an account with CREATE, ALTER, INDEX, SELECT, INSERT and UPDATE on the database, not that of serve",
			bare(clean(err)))
	}
	return clean(err)
}

// Unwrap lets callers look at the number.
func (e *serverError) Unwrap() error { return e.cause }

// Where an error says what to do, it names the setting and the tables that are meant.
const (
	dsnSetting  = "WEBHOOK_DISPATCHER_MYSQL_DSN"
	caSetting   = "WEBHOOK_DISPATCHER_MYSQL_CA_FILE"
	tablePrefix = "webhook_dispatcher_"

	noPluginTable = "install the plugin openedx-webhooks in the LMS and run its migrations, or name the LMS's database in " + dsnSetting +
		", or, without an LMS, run `webhook-dispatcher migrate --with-plugin-tables`"
)

// settingError is a connection that was not made, with the setting that is to be looked at.
type settingError struct {
	cause error
	fix   string
}

// Error implements error.
func (e *settingError) Error() string { return e.cause.Error() + ": " + e.fix }

// Unwrap lets callers look at the cause.
func (e *settingError) Unwrap() error { return e.cause }

// connectFix says what to do about a connection that was not made, "" where that is not known.
func connectFix(err error) string {
	if cause, ok := errors.AsType[*net.OpError](err); ok && cause.Op == "dial" {
		return "check that the server runs, and host and port in " + dsnSetting
	}
	if errors.Is(err, mysql.ErrNoTLS) {
		return "remove tls from " + dsnSetting + ", and " + caSetting + " if it is set, or have the server offer TLS"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "check the host in " + dsnSetting + ", and name the PEM file of the authority that signs the server's certificate in " + caSetting
	}
	return ""
}

// clean takes out of err what may quote values, and adds what to do. What was cleaned before stays as it is.
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

// bare leaves out what to do about an error, where the caller knows better.
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

// Retries of what the server undid because of other transactions.
const (
	maxRetries = 6
	retryBase  = 5 * time.Millisecond
)

// retry runs f again after a deadlock or a lock wait, which leave nothing of f behind, and after a row that another has made since f
// looked for it. Any other error is returned at once: after a lost connection it is open what was done, and waiting is the caller's to
// decide.
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
		s.log.DebugContext(ctx, "database statement undone by another, trying again", "what", what, "try", n+1, "error", clean(err))
		if ended := wait.Wait(ctx); ended != nil {
			return fmt.Errorf("%s: %w", what, errors.Join(clean(err), ended))
		}
	}
}

// transaction runs f in one transaction, and again as retry does.
func (s *Store) transaction(ctx context.Context, what string, f func(tx *sql.Tx) error) error {
	return s.transactionAt(ctx, sql.LevelDefault, what, f)
}

// transactionAt does what transaction does, at another level of isolation than the connections'.
func (s *Store) transactionAt(ctx context.Context, level sql.IsolationLevel, what string, f func(tx *sql.Tx) error) error {
	return s.retry(ctx, what, func() error {
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: level})
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
