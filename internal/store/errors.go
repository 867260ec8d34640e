package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
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

// parameterErrors answer a SET statement, which the driver makes of those DSN parameters that it
// does not know itself: unknown, read-only or global variables, missing rights, wrong values.
var parameterErrors = [...]uint16{errUnknownVariable, 1064, 1115, 1227, 1229, 1231, 1232, 1238, 1273, 1298}

// plainErrors have texts that name accounts, tables, columns and server states, but never a value.
var plainErrors = [...]uint16{
	1040, errDatabaseDenied, errAccessDenied, 1046, errUnknownDatabase, 1053, 1129, 1130, 1203, 1226, // connections and accounts
	1021, 1030, 1114, 1290, 1317, 1836, 1927, 3024, // the server cannot or may not
	errUnknownColumn, errNoTable, errTableDenied, errColumnDenied, errLockWait, errDeadlock, errRecordChanged,
	errPacketTooLarge, errDataTooLong, errOutOfRange,
}

// cleanError is an error whose text quotes no values.
type cleanError struct {
	cause error
	text  string
	fix   string // what to do, "" if unknown
}

// Error implements error.
func (e *cleanError) Error() string {
	if e.fix == "" {
		return e.text
	}
	return e.text + ": " + e.fix
}

// Unwrap lets callers look at the number.
func (e *cleanError) Unwrap() error { return e.cause }

// clean takes what may quote values out of err, and adds what to do. A cleaned error stays as it is.
func clean(err error) error {
	if _, done := errors.AsType[*cleanError](err); done || err == nil {
		return err
	}
	cause, ok := errors.AsType[*mysql.MySQLError](err)
	switch {
	case !ok:
		if fix := connectFix(err); fix != "" {
			return &cleanError{err, err.Error(), fix}
		}
		return err
	case slices.Contains(plainErrors[:], cause.Number):
		return &cleanError{cause, cause.Error(), serverFix(cause)}
	case cause.Number == errIncorrectString:
		return withoutText(cause, "the table's character set lacks a character: replace it")
	}
	return withoutText(cause, "")
}

func withoutText(cause *mysql.MySQLError, fix string) *cleanError {
	return &cleanError{cause, fmt.Sprintf("Error %d (%s)", cause.Number, cause.SQLState[:]), fix}
}

// parameterError is the server's refusal of a connection that is caused by the DSN's parameters.
func parameterError(cause *mysql.MySQLError) error {
	if cause.Number == errUnknownVariable {
		return withoutText(cause, "the server does not know a parameter after ? of "+dsnSetting+": remove it")
	}
	return withoutText(cause, "the server refuses the value of a parameter after ? of "+dsnSetting+": correct or remove it")
}

// bare removes what to do from a cleaned error, for callers that know better.
func bare(err error) error {
	if e, ok := errors.AsType[*cleanError](err); ok {
		e.fix = ""
	}
	return err
}

// denied adds to an error of migrate which rights are missing, if that is the problem.
func denied(err error) error {
	if isNumber(err, errTableDenied, errDatabaseDenied) {
		return fmt.Errorf("%w: migrate needs an account with CREATE, ALTER, INDEX, SELECT, INSERT and UPDATE on the database, unlike serve",
			bare(clean(err)))
	}
	return clean(err)
}

func isNumber(err error, numbers ...uint16) bool {
	cause, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains(numbers, cause.Number)
}

// The settings and tables that errors name.
const (
	dsnSetting  = "WEBHOOK_DISPATCHER_MYSQL_DSN"
	caSetting   = "WEBHOOK_DISPATCHER_MYSQL_CA_FILE"
	tablePrefix = "webhook_dispatcher_"

	noPluginTable = "install the plugin openedx-webhooks in the LMS and run its migrations, or name the LMS's database in " + dsnSetting +
		", or, without an LMS, run `webhook-dispatcher migrate --with-plugin-tables`"
)

// serverFix says what to do about an answer of the server, "" if unknown.
func serverFix(e *mysql.MySQLError) string {
	ours, table := strings.Contains(e.Message, tablePrefix), pluginTable(e.Message)
	switch e.Number {
	case errAccessDenied:
		return "check user and password in " + dsnSetting + ", and the hosts from which the account may connect"
	case errDatabaseDenied:
		return "GRANT the account its rights on this database, or name another in " + dsnSetting
	case errUnknownDatabase:
		return "name the LMS's database in " + dsnSetting + ", or create it"
	case errNoTable:
		switch {
		case ours:
			return "run `webhook-dispatcher migrate`"
		case table != "":
			return noPluginTable
		}
	case errTableDenied, errColumnDenied:
		switch {
		case table != "":
			return "GRANT " + pluginRights(e.Message) + " ON " + table + " TO the account"
		case ours: // an account without rights on a table is not told whether it exists
			return "run `webhook-dispatcher migrate` if it has not been run since the upgrade, then " +
				"GRANT SELECT, INSERT, UPDATE, DELETE ON that table TO the account"
		}
	}
	return ""
}

// pluginTable returns the plugin's table that a message of the server names, "" if none.
func pluginTable(message string) string {
	for _, table := range [...]string{webhookTable, webfilterTable} {
		if strings.Contains(message, table) {
			return table
		}
	}
	return ""
}

// pluginRights returns the rights on a table of the plugin that an account needs which was denied
// one: to insert rows means to switch them too, and to change rows means to read them.
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

// connectFix says what to do about a connection that was not made, "" if unknown.
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
