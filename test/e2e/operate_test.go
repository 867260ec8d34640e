//go:build e2e

package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestMigrate follows a first installation, with its mistakes.
func TestMigrate(t *testing.T) {
	t.Parallel()
	s := harness.EmptySite(t) // as Django left it
	refuses := func(account string, says []string, args ...string) {
		t.Helper()
		_, stderr, code := s.Try(account, nil, args...)
		if code != 1 {
			t.Errorf("%v with the account of %s: exit code %d, want 1: %s", args, account, code, stderr)
		}
		for _, text := range says {
			if !strings.Contains(stderr, text) {
				t.Errorf("%v with the account of %s says %q, want %q in it", args, account, stderr, text)
			}
		}
	}
	// The account of migrate sees only its own tables, so the test also tries the owner's account.
	owner := []string{"WEBHOOK_DISPATCHER_MYSQL_DSN=" + s.DSN("lms")}
	_, stderr, code := s.Try("migrate", owner, "migrate", "--with-plugin-tables")
	if code != 1 || !strings.Contains(stderr, "--with-plugin-tables is refused") || !strings.Contains(stderr, "django_migrations") {
		t.Errorf("migrate --with-plugin-tables with Django: exit code %d: %s", code, stderr)
	}
	refuses("serve", []string{"migrate"}, "migrate")
	const tables = `SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ? AND table_name LIKE 'webhook\_%'`
	if n := s.MustNumber(tables, s.Database); n > 0 {
		t.Errorf("%d tables were made by a refused migrate", n)
	}

	// serve reports that the schema is behind in /readyz, and then exits.
	d := s.Launch()
	d.WaitNotReady("database", "migrate", 20*time.Second)
	if code := d.WaitExit(time.Minute); code != 1 || !strings.Contains(harness.LastLines(d.Log.String(), 1), "migrate") {
		t.Errorf("serve without tables: exit code %d, says %s", code, harness.LastLines(d.Log.String(), 1))
	}

	// serve accepts a schema that is migrated while it waits. Concurrent migrations run once.
	s.Producer.CreateTopic(harness.Registrations, 1)
	d = s.Launch()
	harness.Eventually(t, 20*time.Second, "the health server", func() error { _, _, err := d.Get("/livez"); return err })
	errs := make([]func() error, 3)
	for i := range errs {
		errs[i] = func() error {
			if out, stderr, code := s.Try("migrate", nil, "migrate"); code != 0 {
				return errors.New(out + stderr)
			}
			return nil
		}
	}
	if err := harness.Together(errs...); err != nil {
		t.Fatal(err)
	}
	s.Grant()
	took := d.WaitReady(20 * time.Second)
	d.Terminate()
	if out := s.Run("migrate", "migrate"); !strings.Contains(out, "nothing was to do") {
		t.Errorf("a migrate that has nothing to do says %q", out)
	}
	harness.Figure(t, "serve became ready %s after three migrations at once", took)
}

// TestDatabaseWithoutDjango lets the daemon create the plugin's tables, for installations without
// an LMS.
func TestDatabaseWithoutDjango(t *testing.T) {
	t.Parallel()
	s := harness.EmptySite(t)
	for _, table := range []string{"django_migrations", "openedx_webhooks_webhook", "openedx_webhooks_webfilter"} {
		if _, err := s.DB.Exec("DROP TABLE " + table); err != nil {
			t.Fatal(err)
		}
	}
	owner := []string{"WEBHOOK_DISPATCHER_MYSQL_DSN=" + s.DSN("lms")}
	for range 2 {
		out, stderr, code := s.Try("migrate", owner, "migrate", "--with-plugin-tables")
		if code != 0 || !strings.Contains(out, "plugin's tables are there") {
			t.Fatalf("exit code %d: %s%s", code, out, stderr)
		}
	}
	s.Grant()
	// Django's own models work on these tables.
	django := s.ORM()
	django.Add(map[string]any{"event": harness.RegistrationRule, "webhook_url": s.URL("hook")})
	s.Producer.CreateTopic(harness.Registrations, 1)
	d := s.Serve()
	s.Delivers("hook", s.Producer.Publish(harness.Registrations, 1, 1, 5), 20*time.Second)
	d.Terminate()
}

// TestWrongSettings starts serve with settings that cannot work. It must name the setting and the
// fix, and show no secret.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	const secret = "canary-secret-42de"
	for name, c := range map[string]struct {
		settings []string
		code     int
		says     []string
	}{
		"no brokers": {[]string{"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS="}, 2, []string{"EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS"}},
		"no DSN":     {[]string{"WEBHOOK_DISPATCHER_MYSQL_DSN="}, 2, []string{"WEBHOOK_DISPATCHER_MYSQL_DSN"}},
		"bad DSN":    {[]string{"WEBHOOK_DISPATCHER_MYSQL_DSN=user:" + secret + "@@tcp"}, 2, []string{"WEBHOOK_DISPATCHER_MYSQL_DSN"}},
		"no topics":  {[]string{"WEBHOOK_DISPATCHER_TOPICS="}, 2, []string{"WEBHOOK_DISPATCHER_TOPICS"}},
		"two at once": {
			[]string{"WEBHOOK_DISPATCHER_START_OFFSET=newest", "WEBHOOK_DISPATCHER_TIMEOUT=10"},
			2,
			[]string{"WEBHOOK_DISPATCHER_START_OFFSET", `newest`, "earliest", "WEBHOOK_DISPATCHER_TIMEOUT"},
		},
		"no such file": {
			[]string{"WEBHOOK_DISPATCHER_KAFKA_CA_FILE=/nowhere.pem"}, 2, []string{"WEBHOOK_DISPATCHER_KAFKA_CA_FILE", "/nowhere.pem"},
		},
		"port taken": {
			[]string{"WEBHOOK_DISPATCHER_LISTEN=" + s.Kafka.Address()}, 1, []string{"WEBHOOK_DISPATCHER_LISTEN", "address already in use"},
		},
	} {
		_, stderr, code := s.Try("serve", c.settings, "serve")
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, c.code, stderr)
		}
		for _, text := range c.says {
			if !strings.Contains(stderr, text) {
				t.Errorf("%s: says %q, want %q in it", name, stderr, text)
			}
		}
		if strings.Contains(stderr, secret) {
			t.Errorf("%s: shows the password: %s", name, stderr)
		}
	}
}

// TestRefusedByTheDatabase starts serve with an address, credentials and rights that do not work.
// It waits, as it does for an unreachable database, and says why.
func TestRefusedByTheDatabase(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	const secret = "canary-secret-b3a0"
	for name, c := range map[string]struct{ dsn, says string }{
		"wrong password": {strings.Replace(s.DSN("dispatcher_serve"), ":dispatcher_serve@", ":"+secret+"@", 1), "denied"},
		"no such schema": {strings.Replace(s.DSN("dispatcher_serve"), "/"+s.Database, "/nowhere", 1), "denied"},
		"nobody there":   {strings.Replace(s.DSN("dispatcher_serve"), s.MariaDB.Address(), "127.0.0.1:1", 1), "refused"},
	} {
		d := s.Launch("WEBHOOK_DISPATCHER_MYSQL_DSN=" + c.dsn)
		t.Logf("%s: %s", name, d.WaitNotReady("database", c.says, 20*time.Second))
		if status, _, err := d.Get("/livez"); err != nil || status != http.StatusOK {
			t.Errorf("%s: /livez answers %d %v", name, status, err)
		}
		d.Terminate()
		if strings.Contains(d.Log.String(), secret) {
			t.Errorf("%s: the log holds the password", name)
		}
	}
}
