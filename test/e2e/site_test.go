//go:build e2e

package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// registration is the event that tests send where any event will do, with the topic and the rule that belong to it.
const (
	registration     = "org.openedx.learning.student.registration.completed.v1"
	registrationRule = "STUDENT_REGISTRATION_COMPLETED"
	registrations    = "user-registration"
)

// site is one installation: topics under a prefix, a consumer group, a database and a receiver that no other test uses.
type site struct {
	*receiver

	t        *testing.T
	w        *workbench
	kafka    *server
	mariadb  *server
	registry string // URL
	prefix   string
	group    string
	database string
	db       *sql.DB // with all rights
	producer *producer
	settings []string // of all commands and daemons of the site
}

// newSite returns a site whose schema is migrated. Servers of its own are given where the test restarts them.
func newSite(t *testing.T, own ...*server) *site {
	t.Helper()
	s := emptySite(t, own...)
	s.run("migrate", "migrate")
	s.grant()
	return s
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// emptySite returns a site whose database has what Django's migrations made, and nothing of the dispatcher's.
func emptySite(t *testing.T, own ...*server) *site {
	t.Helper()
	w := shared(t)
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	name = notInNames.ReplaceAllString(name, "")
	name = w.run + "-" + name[:min(40, len(name))]
	s := &site{
		receiver: newReceiver(t), t: t, w: w, kafka: w.kafka, mariadb: w.mariadb, prefix: name, group: name + "-webhook-dispatcher",
		database: strings.ReplaceAll(name, "-", "_"), registry: "http://" + w.registry.address() + "/apis/ccompat/v7",
	}
	for _, server := range own {
		switch {
		case strings.HasPrefix(server.name, "kafka"):
			s.kafka = server
		case strings.HasPrefix(server.name, "mariadb"), strings.HasPrefix(server.name, "mysql"):
			s.mariadb = server
			if err := w.django(fmt.Sprintf("openedx@%d", server.port), "migrate", "-v", "0").Run(); err != nil {
				t.Fatal(err)
			}
		}
	}
	db, err := sql.Open("mysql", s.dsn("admin"))
	if err != nil {
		t.Fatal(err)
	}
	s.db = db
	t.Cleanup(func() { _ = db.Close() })
	s.cloneDatabase()
	s.grant()
	s.producer = newProducer(s)
	t.Cleanup(s.report)
	return s
}

// cloneDatabase makes the site's database with the tables that Django made in "openedx", which is faster than a Django for each test.
func (s *site) cloneDatabase() {
	s.t.Helper()
	admin, err := sql.Open("mysql", strings.Replace(s.dsn("admin"), "/"+s.database, "/openedx", 1))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	do := func(statement string) {
		if _, err := admin.Exec(statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
	do("CREATE DATABASE " + s.database + " CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
	s.t.Cleanup(func() { _, _ = s.db.Exec("DROP DATABASE " + s.database) })
	for _, table := range []string{"django_migrations", "openedx_webhooks_webhook", "openedx_webhooks_webfilter"} {
		do(fmt.Sprintf("CREATE TABLE %s.%s LIKE openedx.%s", s.database, table, table))
	}
	do(fmt.Sprintf("INSERT INTO %s.django_migrations SELECT * FROM openedx.django_migrations", s.database))
	do(fmt.Sprintf("GRANT ALL ON %s.* TO 'lms'@'%%'", s.database))
}

// registryAddress returns where the schema registry that the site uses listens.
func (s *site) registryAddress() string { return s.w.registry.address() }

// grant gives the dispatcher's accounts the rights that they have in production.
func (s *site) grant() {
	s.t.Helper()
	if err := s.w.command(filepath.Join(s.w.root, "test/e2e/services/accounts"), s.mariadb.dir, s.database); err != nil {
		s.t.Fatal(err)
	}
}

// dsn returns how an account reaches the site's database; every account's password is its name.
func (s *site) dsn(account string) string {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.ParseTime = account, account, "tcp", s.mariadb.address(), s.database, true
	return c.FormatDSN()
}

// environment returns the settings of the daemon on this site, under one of its accounts; more come last and win.
func (s *site) environment(account string, more ...string) []string {
	return append(append([]string{
		"PATH=" + os.Getenv("PATH"),
		"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=" + s.kafka.address(),
		"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + s.registry,
		"EVENT_BUS_TOPIC_PREFIX=" + s.prefix,
		"WEBHOOK_DISPATCHER_TOPICS=" + registrations,
		"WEBHOOK_DISPATCHER_START_OFFSET=earliest",
		"WEBHOOK_DISPATCHER_MYSQL_DSN=" + s.dsn("dispatcher_"+account),
		"WEBHOOK_DISPATCHER_EGRESS_ALLOW=127.0.0.0/8",
		"WEBHOOK_DISPATCHER_LISTEN=127.0.0.1:0",
		"WEBHOOK_DISPATCHER_RULES_REFRESH=500ms",
	}, s.settings...), more...)
}

// try runs a command of the daemon's binary to its end, under one of the accounts.
func (s *site) try(account string, env []string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cmd := exec.Command(s.w.binary, args...)
	cmd.Env = s.environment(account, env...)
	var out, err strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); e != nil && cmd.ProcessState == nil {
		s.t.Fatal(e)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// run is try for a command that must succeed; it returns what the command printed.
func (s *site) run(account string, args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.try(account, nil, args...)
	if code != 0 {
		s.t.Fatalf("webhook-dispatcher %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return strings.TrimSpace(stdout)
}

// rule adds a rule for registrations by the command, and returns its id. A hook of the receiver gets the events.
func (s *site) rule(hook string, flags ...string) string {
	s.t.Helper()
	return s.run("rules", append([]string{"rules", "add", "--event", registrationRule, "--url", s.url(hook)}, flags...)...)
}

// number returns the one number that a query selects.
func (s *site) number(query string, args ...any) (int, error) {
	var n int
	err := s.db.QueryRowContext(context.Background(), query, args...).Scan(&n)
	return n, err
}

// mustNumber is number for a database that answers.
func (s *site) mustNumber(query string, args ...any) int {
	s.t.Helper()
	n, err := s.number(query, args...)
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// rows counts the rows of deliveries that fit a condition.
func (s *site) rows(where string, args ...any) int {
	s.t.Helper()
	return s.mustNumber("SELECT COUNT(*) FROM webhook_dispatcher_delivery WHERE "+where, args...)
}

// states returns how many rows of deliveries are in each state.
func (s *site) states() (map[string]int, error) {
	rows, err := s.db.QueryContext(context.Background(), `SELECT ELT(state+1,'pending','leased','delivered','dead','halted'), COUNT(*)
  FROM webhook_dispatcher_delivery GROUP BY 1`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	counts := map[string]int{}
	for rows.Next() {
		var state string
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return nil, err
		}
		counts[state] = n
	}
	return counts, rows.Err()
}

// report helps to find out why a test has failed.
func (s *site) report() {
	if !s.t.Failed() {
		return
	}
	states, err := s.states()
	s.t.Logf("rows of deliveries: %v %v", states, err)
	rules, stderr, _ := s.try("rules", nil, "rules", "list")
	s.t.Logf("rules:\n%s%s", lastLines(rules, 12), stderr)
}
