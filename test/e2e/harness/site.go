//go:build e2e

package harness

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The event that tests send if any event will do: its type, its name in rules, and its topic.
const (
	Registration     = "org.openedx.learning.student.registration.completed.v1"
	RegistrationRule = "STUDENT_REGISTRATION_COMPLETED"
	Registrations    = "user-registration"
)

// Site is one installation for one test: topics under a prefix, a consumer group, a database and a
// receiver of its own.
type Site struct {
	*Receiver

	T        *testing.T
	w        *workbench
	binary   string // of the daemon
	Kafka    *Server
	MariaDB  *Server
	Registry string // URL of the schema registry
	Prefix   string // of its topics
	group    string
	Database string  // its name
	DB       *sql.DB // as an administrator
	Producer *Producer
	Settings []string // NAME=VALUE, for all commands and daemons of the site
}

// NewSite returns a site with a migrated schema. It uses the shared servers except those given as
// own.
func NewSite(t *testing.T, own ...*Server) *Site {
	t.Helper()
	s := EmptySite(t, own...)
	s.Run("migrate", "migrate")
	s.Grant()
	return s
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// EmptySite returns a site whose database has Django's tables but none of the dispatcher's.
func EmptySite(t *testing.T, own ...*Server) *Site {
	t.Helper()
	w := shared(t)
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	name = notInNames.ReplaceAllString(name, "")
	name = w.run + "-" + name[:min(40, len(name))]
	s := &Site{
		Receiver: newReceiver(t), T: t, w: w, binary: w.binary, Kafka: w.kafka, MariaDB: w.mariadb,
		Prefix: name, group: name + "-webhook-dispatcher",
		Database: strings.ReplaceAll(name, "-", "_"), Registry: "http://" + w.registry.Address() + "/apis/ccompat/v7",
	}
	for _, server := range own {
		switch {
		case strings.HasPrefix(server.name, "kafka"):
			s.Kafka = server
		case strings.HasPrefix(server.name, "mariadb"), strings.HasPrefix(server.name, "mysql"):
			s.MariaDB = server
			if err := w.django(fmt.Sprintf("openedx@%d", server.port), "migrate", "-v", "0").Run(); err != nil {
				t.Fatal(err)
			}
		}
	}
	db, err := sql.Open("mysql", s.DSN("admin"))
	if err != nil {
		t.Fatal(err)
	}
	s.DB = db
	t.Cleanup(func() { _ = db.Close() })
	s.cloneDatabase()
	s.Grant()
	s.Producer = NewProducer(s)
	t.Cleanup(s.report)
	return s
}

// RegistryAddress returns the host and port of the site's schema registry.
func (s *Site) RegistryAddress() string { return s.w.registry.Address() }

// environment returns the settings of a daemon or command under an account; more override the rest.
func (s *Site) environment(account string, more ...string) []string {
	return append(append([]string{
		"PATH=" + os.Getenv("PATH"),
		"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=" + s.Kafka.Address(),
		"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + s.Registry,
		"EVENT_BUS_TOPIC_PREFIX=" + s.Prefix,
		"WEBHOOK_DISPATCHER_TOPICS=" + Registrations,
		"WEBHOOK_DISPATCHER_START_OFFSET=earliest",
		"WEBHOOK_DISPATCHER_MYSQL_DSN=" + s.DSN("dispatcher_"+account),
		"WEBHOOK_DISPATCHER_EGRESS_ALLOW=127.0.0.0/8",
		"WEBHOOK_DISPATCHER_LISTEN=127.0.0.1:0",
		"WEBHOOK_DISPATCHER_RULES_REFRESH=500ms",
	}, s.Settings...), more...)
}

// Try runs a command of the daemon's binary under an account: serve, rules or migrate. env
// overrides the site's settings.
func (s *Site) Try(account string, env []string, args ...string) (stdout, stderr string, code int) {
	s.T.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Env = s.environment(account, env...)
	var out, err strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &err
	if e := cmd.Run(); e != nil && cmd.ProcessState == nil {
		s.T.Fatal(e)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// Run is Try for a command that must succeed. It returns what the command printed.
func (s *Site) Run(account string, args ...string) string {
	s.T.Helper()
	stdout, stderr, code := s.Try(account, nil, args...)
	if code != 0 {
		s.T.Fatalf("webhook-dispatcher %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return strings.TrimSpace(stdout)
}

// report logs the state of a failed test.
func (s *Site) report() {
	if !s.T.Failed() {
		return
	}
	states, err := s.States()
	s.T.Logf("rows of deliveries: %v %v", states, err)
	rules, stderr, _ := s.Try("rules", nil, "rules", "list")
	s.T.Logf("rules:\n%s%s", LastLines(rules, 12), stderr)
}
