//go:build e2e

package harness

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// UndecodableReasons counts the undecodable records by reason.
func (s *Site) UndecodableReasons() map[string]int {
	s.T.Helper()
	found, err := s.counts("SELECT reason, COUNT(*) FROM webhook_dispatcher_undecodable GROUP BY reason")
	if err != nil {
		s.T.Fatal(err)
	}
	return found
}

// AllDelivered returns an error unless every row is delivered.
func (s *Site) AllDelivered() error {
	states, err := s.States()
	if err != nil {
		return err
	}
	if delivered := states["delivered"]; len(states) > 1 || len(states) == 1 && delivered == 0 {
		return fmt.Errorf("rows: %v", states)
	}
	return nil
}

// RowsWritten returns how many delivery rows were ever inserted, deleted ones included: according
// to the table's auto-increment counter, and according to the daemon's metric.
func (s *Site) RowsWritten(d *Daemon) (byTable, byDaemon int) {
	s.T.Helper()
	byTable = s.MustNumber(`SELECT COALESCE(MAX(AUTO_INCREMENT), 1) - 1 FROM information_schema.tables
  WHERE table_schema = ? AND table_name = 'webhook_dispatcher_delivery'`, s.Database)
	enqueued, err := d.Metric("webhook_dispatcher_rows_enqueued_total")
	if err != nil {
		s.T.Fatal(err)
	}
	return byTable, int(enqueued)
}

// Row is the part of a delivery row that tests look at.
type Row struct {
	State            string
	Attempts, Status int
	Reason           string
}

// Row returns a rule's only delivery row, the zero Row if there is none.
func (s *Site) Row(rule string) Row {
	s.T.Helper()
	rows, err := s.DB.Query(`SELECT ELT(state+1,'pending','leased','delivered','dead','halted'), attempts, last_status, reason
  FROM webhook_dispatcher_delivery WHERE rule_id = ?`, rule)
	if err != nil {
		s.T.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var r Row
	for n := 0; rows.Next(); n++ {
		if n > 0 {
			s.T.Fatalf("rule %s has more than one row", rule)
		}
		if err := rows.Scan(&r.State, &r.Attempts, &r.Status, &r.Reason); err != nil {
			s.T.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		s.T.Fatal(err)
	}
	return r
}

// cloneDatabase creates the site's database from the tables that Django made in "openedx". That is
// faster than running Django's migrations for each test.
func (s *Site) cloneDatabase() {
	s.T.Helper()
	admin, err := sql.Open("mysql", strings.Replace(s.DSN("admin"), "/"+s.Database, "/openedx", 1))
	if err != nil {
		s.T.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	do := func(statement string) {
		if _, err := admin.Exec(statement); err != nil {
			s.T.Fatalf("%s: %v", statement, err)
		}
	}
	do("CREATE DATABASE " + s.Database + " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
	s.T.Cleanup(func() { _, _ = s.DB.Exec("DROP DATABASE " + s.Database) })
	for _, table := range []string{"django_migrations", "openedx_webhooks_webhook", "openedx_webhooks_webfilter"} {
		do(fmt.Sprintf("CREATE TABLE %s.%s LIKE openedx.%s", s.Database, table, table))
	}
	do(fmt.Sprintf("INSERT INTO %s.django_migrations SELECT * FROM openedx.django_migrations", s.Database))
	do(fmt.Sprintf("GRANT ALL ON %s.* TO 'lms'@'%%'", s.Database))
}

// Grant gives the dispatcher's accounts their production rights.
func (s *Site) Grant() {
	s.T.Helper()
	if err := s.w.command(filepath.Join(s.w.root, "test/e2e/services/accounts"), s.MariaDB.Dir, s.Database); err != nil {
		s.T.Fatal(err)
	}
}

// DSN returns the data source name of an account; every account's password is its name.
func (s *Site) DSN(account string) string {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.ParseTime = account, account, "tcp", s.MariaDB.Address(), s.Database, true
	return c.FormatDSN()
}

// Number runs a query that selects one number.
func (s *Site) Number(query string, args ...any) (int, error) {
	var n int
	err := s.DB.QueryRowContext(context.Background(), query, args...).Scan(&n)
	return n, err
}

// MustNumber is Number for a test in which the database is up.
func (s *Site) MustNumber(query string, args ...any) int {
	s.T.Helper()
	n, err := s.Number(query, args...)
	if err != nil {
		s.T.Fatalf("%s: %v", query, err)
	}
	return n
}

// Rows counts the delivery rows that match a condition.
func (s *Site) Rows(where string, args ...any) int {
	s.T.Helper()
	return s.MustNumber("SELECT COUNT(*) FROM webhook_dispatcher_delivery WHERE "+where, args...)
}

// States counts the delivery rows by state.
func (s *Site) States() (map[string]int, error) {
	return s.counts(`SELECT ELT(state+1,'pending','leased','delivered','dead','halted'), COUNT(*)
  FROM webhook_dispatcher_delivery GROUP BY 1`)
}

// counts runs a query that selects names with numbers.
func (s *Site) counts(query string) (map[string]int, error) {
	rows, err := s.DB.QueryContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	counts := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			return nil, err
		}
		counts[name] = n
	}
	return counts, rows.Err()
}
