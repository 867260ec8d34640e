package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	table := &mysql.MySQLError{Number: errNoTable, Message: "Table 'openedx.webhook_dispatcher_lane' doesn't exist"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"refused": {&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}, "host and port in WEBHOOK_DISPATCHER_MYSQL_DSN"},
		"access": {
			&mysql.MySQLError{Number: 1045, Message: "Access denied"},
			"WEBHOOK_DISPATCHER_MYSQL_DSN, and the hosts from which the account may connect",
		},
		"no table":    {table, "run `webhook-dispatcher migrate`"},
		"other table": {&mysql.MySQLError{Number: errNoTable, Message: "Table 'openedx.auth_user' doesn't exist"}, "doesn't exist"},
		"no plugin": {
			&mysql.MySQLError{Number: errNoTable, Message: "Table 'openedx.openedx_webhooks_webhook' doesn't exist"},
			"without an LMS, run `webhook-dispatcher migrate --with-plugin-tables`",
		},
		"add": {
			&mysql.MySQLError{Number: 1142, Message: "INSERT command denied to user 'd'@'h' for table `openedx`.`openedx_webhooks_webhook`"},
			": GRANT SELECT, INSERT, UPDATE ON openedx_webhooks_webhook TO the account",
		},
		"switch": {
			&mysql.MySQLError{Number: 1142, Message: "SELECT, UPDATE command denied to user 'd'@'h' for table 'openedx_webhooks_webfilter'"},
			": GRANT SELECT, UPDATE ON openedx_webhooks_webfilter TO the account",
		},
		"lock": {
			&mysql.MySQLError{Number: 1142, Message: "SELECT with locking clause command denied to user 'd' for table 'openedx_webhooks_webhook'"},
			": GRANT SELECT, UPDATE ON openedx_webhooks_webhook TO the account",
		},
		"read": {
			&mysql.MySQLError{Number: 1143, Message: "SELECT command denied to user 'd'@'h' for column 'url' in table 'openedx_webhooks_webhook'"},
			": GRANT SELECT ON openedx_webhooks_webhook TO the account",
		},
		"own table": {
			&mysql.MySQLError{Number: 1142, Message: "INSERT command denied to user 'd'@'h' for table 'webhook_dispatcher_lane'"},
			"if it has not been run since the upgrade, then GRANT SELECT, INSERT, UPDATE, DELETE ON that table TO the account",
		},
		"no TLS": {mysql.ErrNoTLS, "remove tls from WEBHOOK_DISPATCHER_MYSQL_DSN, and WEBHOOK_DISPATCHER_MYSQL_CA_FILE if it is set, " +
			"or have the server offer TLS"},
		"unknown authority": {
			&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			"to a PEM file of the CA that signs the server's certificate",
		},
		"value quoted": {
			&mysql.MySQLError{Number: 1062, Message: "Duplicate entry 'canary'", SQLState: [5]byte{'2', '3', '0', '0', '0'}},
			"Error 1062 (23000)",
		},
		"reading": {&net.OpError{Op: "read", Net: "tcp", Err: errors.New("reset")}, "reset"},
		"other":   {errors.New("other"), "other"},
	} {
		once := clean(fmt.Errorf("inner: %w", c.err))
		again := clean(fmt.Errorf("outer: %w", once))
		if text := once.Error(); !strings.HasSuffix(text, c.want) || strings.Contains(text, "canary") {
			t.Errorf("%s: %q, want it to end with %q", name, text, c.want)
		}
		if again.Error() != "outer: "+once.Error() {
			t.Errorf("%s: cleaned twice it is %q", name, again)
		}
		if !errors.Is(again, c.err) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
	if clean(nil) != nil {
		t.Error("an error was made of nil")
	}
	if text := bare(clean(table)).Error(); strings.Contains(text, "migrate") {
		t.Errorf("bare: %q", text)
	}
}

// refusing is a server that refuses: connections with one error, or else statements with another.
type refusing struct{ connection, statement error }

// Connect implements driver.Connector.
func (r refusing) Connect(context.Context) (driver.Conn, error) { return r, r.connection }

// Driver implements driver.Connector.
func (refusing) Driver() driver.Driver { return nil }

// ExecContext implements driver.ExecerContext.
func (r refusing) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return nil, r.statement
}

// QueryContext implements driver.QueryerContext.
func (r refusing) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return nil, r.statement
}

// Prepare implements driver.Conn.
func (r refusing) Prepare(string) (driver.Stmt, error) { return nil, r.statement }

// Begin implements driver.Conn.
func (r refusing) Begin() (driver.Tx, error) { return nil, r.statement }

// Close implements driver.Conn.
func (refusing) Close() error { return nil }

// What the server says of the DSN's parameters quotes them; the same numbers elsewhere are a mistake in a statement of this package.
func TestRefusedParameters(t *testing.T) {
	t.Parallel()
	unknown := &mysql.MySQLError{Number: 1193, Message: "Unknown system variable 'canary'", SQLState: [5]byte([]byte("HY000"))}
	wrong := &mysql.MySQLError{Number: 1231, Message: "Variable 'x' can't be set to the value of 'canary'", SQLState: [5]byte([]byte("42000"))}
	const setting = "parameter after ? of WEBHOOK_DISPATCHER_MYSQL_DSN"
	for _, c := range []struct {
		server refusing
		want   string
	}{
		{refusing{connection: unknown}, "ping database h/d: Error 1193 (HY000): the server does not know a " + setting + ": remove it"},
		{
			refusing{connection: wrong},
			"ping database h/d: Error 1231 (42000): the server refuses the value of a " + setting + ": correct or remove it",
		},
		{refusing{statement: unknown}, "ping database h/d: Error 1193 (HY000)"},
	} {
		db := sql.OpenDB(&connector{Connector: c.server, packet: new(atomic.Int64)})
		s := &Store{db: db, target: "h/d"}
		if err := s.Ping(t.Context()); err == nil || err.Error() != c.want || !errors.Is(err, unknown) && !errors.Is(err, wrong) {
			t.Errorf("%v, want %s", err, c.want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whoever is denied something by migrate is told what it needs, and not to run it.
func TestMigrateSaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	for _, refusal := range []*mysql.MySQLError{
		{Number: errTableDenied, Message: "CREATE command denied to user 'd'@'h' for table 'webhook_dispatcher_migration'"},
		{Number: errDatabaseDenied, Message: "Access denied for user 'd'@'h' to database 'openedx'"},
	} {
		db := sql.OpenDB(refusing{statement: refusal})
		_, err := (&Store{db: db}).runMigrations(t.Context())
		if err == nil || !errors.Is(err, refusal) {
			t.Fatal(err)
		}
		text := err.Error()
		const needs = ": migrate needs an account with CREATE, ALTER, INDEX, SELECT, INSERT and UPDATE on the database"
		if !strings.Contains(text, refusal.Message+needs) ||
			strings.Contains(text, "run `webhook-dispatcher migrate`") || strings.Contains(text, dsnSetting) {
			t.Error(text)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestUnreachableServer(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1:1", "no-such-host.invalid:3306"} {
		s, err := Open(Options{DSN: "u:canary@tcp(" + host + ")/d"})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Ping(t.Context())
		if err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_MYSQL_DSN") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v, want the setting named", host, err)
		}
		if _, err := s.Rules(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "read rules from database "+host+"/d: ") {
			t.Errorf("%s: got %v, want to know what was being done", host, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
