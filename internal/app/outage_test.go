package app_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// waitReady waits until /readyz has the status and all of the texts.
func (d *daemon) waitReady(status int, texts ...string) {
	d.w.t.Helper()
	d.waitAnswer("/readyz", status, texts...)
}

func (d *daemon) waitAnswer(path string, status int, texts ...string) {
	d.w.t.Helper()
	wait(d.w.t, fmt.Sprintf("%s with %d and %q", path, status, texts), func() (bool, string) {
		got, body := d.get(path)
		missing := slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(body, s) })
		return got == status && !missing, fmt.Sprintf("%d %s", got, body)
	})
}

func TestHealthRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	d := w.start(nil)
	d.waitReady(http.StatusOK, `"ready": true`, "database", "rules", "registry", "kafka")
	if status, body := d.get("/livez"); status != http.StatusOK {
		t.Errorf("/livez: %d %s", status, body)
	}
	if _, all := d.get("/metrics"); !strings.Contains(all, `revision="test",version="1.2.3"} 1`) {
		t.Errorf("no build info in the metrics: %s", all)
	}
	if status, _ := d.get("/" + canary); status != http.StatusNotFound {
		t.Errorf("an unknown route answers %d", status)
	}
	d.end()
	if status, _ := d.get("/livez"); status != 0 {
		t.Errorf("/livez answers %d after the end", status)
	}
}

// A registry that is away makes its partitions wait; readiness names it, and afterwards everything
// goes on.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]int{
		"error": http.StatusInternalServerError, "refusal": http.StatusForbidden, "another's 404": http.StatusNotFound,
		"silence": fakes.Silence,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			rec := w.receiver(nil)
			first, second := w.load("COURSE_ENROLLMENT_CREATED__readme"), w.load("STUDENT_REGISTRATION_COMPLETED__readme")
			w.rule(first.Event, rec.at(""), false)
			w.rule(second.Event, rec.at(""), false)
			w.registry.Fail(failure) // at the start
			w.publish(first.message(0, "one"))
			d := w.start(nil)
			d.waitReady(http.StatusServiceUnavailable, "schema registry "+w.registry.URL())
			if status, _ := d.get("/livez"); status != http.StatusOK {
				t.Errorf("/livez: %d; a restart would cure nothing", status)
			}
			if calls, at := rec.all(), w.committed(0); len(calls) > 0 || at > 0 {
				t.Errorf("calls %v, position %d", calls, at)
			}
			w.registry.Fail(0)
			rec.wait(t, 1)
			d.waitReady(http.StatusOK)

			w.registry.Fail(failure) // in the middle: known schemas still serve
			w.publish(first.message(0, "two"), second.message(0, "three"), first.message(0, "four"))
			rec.wait(t, 2)
			d.waitReady(http.StatusServiceUnavailable, "schema registry "+w.registry.URL())
			w.registry.Fail(0)
			rec.wait(t, 4)
			w.waitCommitted(0, 4)
			d.waitReady(http.StatusOK)
			if got := w.reasons(); len(got) > 0 {
				t.Errorf("kept as undecodable: %v", got)
			}
		})
	}
}

// Without a database nothing is consumed: there would be no rules, and nowhere to keep what fails.
func TestDatabaseAwayAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	w.publish(f.message(0, "one"))
	w.gate.setShut(true)
	d := w.start(nil)
	d.waitReady(http.StatusServiceUnavailable, `"name": "database"`, w.gate.addr())
	if at := w.committed(0); at != -1 {
		t.Errorf("position %d without rules", at)
	}
	w.gate.setShut(false)
	rec.wait(t, 1)
	w.waitCommitted(0, 1)
	d.waitReady(http.StatusOK)
}

// Away in the middle: deliveries that are taken need no database; those that fail wait for it, and
// nothing is lost.
func TestDatabaseAwayInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	good, bad := w.receiver(nil), w.receiver(statuses(500, 200))
	f, failing := w.load("COURSE_ENROLLMENT_CREATED__readme"), w.load("STUDENT_REGISTRATION_COMPLETED__readme")
	w.rule(f.Event, good.at(""), false)
	w.rule(failing.Event, bad.at(""), false)
	w.publish(f.message(0, "zero"))
	d := w.start(nil)
	w.waitCommitted(0, 1) // where to start is known, which takes the database
	w.gate.setShut(true)
	w.publish(f.message(0, "one"), failing.message(0, "two"), f.message(0, "three"))
	good.wait(t, 3)
	bad.wait(t, 1)
	w.waitCommitted(0, 2) // not past the failed one, which is nowhere yet
	d.waitReady(http.StatusServiceUnavailable, `"name": "database"`)
	if at := w.committed(0); at != 2 {
		t.Errorf("position %d with a failed delivery that is no row", at)
	}
	w.gate.setShut(false)
	w.waitRows(delivery.Delivered)
	w.waitCommitted(0, 4)
	if n := len(good.all()) + len(bad.all()); n != 5 {
		t.Errorf("%d calls, want 5", n)
	}
	d.waitReady(http.StatusOK)
}

// Filters in the request run from the rules as they were last read: what keeps the daemon from
// consuming takes nobody out of their service. Before there are rules they are not answered.
func TestReadyByRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.gate.setShut(true)
	d := w.start(func(cfg *config.Config) {
		cfg.FilterListen, cfg.FilterTokens = "127.0.0.1:0", "0123456789abcdef0123"
	})
	d.waitRole("filters", http.StatusServiceUnavailable, "rules have been read", w.gate.addr())
	w.gate.setShut(false)
	d.waitReady(http.StatusOK, "database", "kafka", "filter endpoint")
	d.waitRole("filters", http.StatusOK, "filter endpoint")
	d.waitRole("consuming", http.StatusOK, "database", "kafka")
	w.gate.setShut(true)
	d.waitRole("consuming", http.StatusServiceUnavailable, w.gate.addr())
	d.waitReady(http.StatusServiceUnavailable, w.gate.addr())
	if status, body := d.get("/readyz?role=filters"); status != http.StatusOK || strings.Contains(body, "database") {
		t.Errorf("filters without a database: %d %s", status, body)
	}
	w.gate.setShut(false)
	d.waitReady(http.StatusOK)

	d = w.start(nil)
	d.waitRole("filters", http.StatusBadRequest, "one of consuming;")
}

// waitRole waits until /readyz has the status and all of the texts for one role.
func (d *daemon) waitRole(role string, status int, texts ...string) {
	d.w.t.Helper()
	d.waitAnswer("/readyz?role="+role, status, texts...)
}

// A schema that is behind is waited for a moment, since a migration may be under way, and then ends
// the daemon with what to do.
func TestSchemaBehind(t *testing.T) {
	t.Parallel()
	t.Run("migrated beside the start", func(t *testing.T) {
		t.Parallel()
		w := emptyWorld(t, 1)
		d := w.start(nil)
		d.waitReady(http.StatusServiceUnavailable, "webhook-dispatcher migrate")
		if _, err := store.Migrate(t.Context(), store.Options{DSN: w.dsn()}, store.MigrateOptions{WithPluginTables: true}); err != nil {
			t.Fatal(err)
		}
		d.waitReady(http.StatusOK)
	})
	t.Run("not migrated", func(t *testing.T) {
		t.Parallel()
		w := emptyWorld(t, 1)
		d := w.start(nil)
		select {
		case <-d.done:
		case <-time.After(patience):
			t.Fatal("the daemon waits for ever")
		}
		if d.err == nil || !strings.Contains(d.err.Error(), "webhook-dispatcher migrate") {
			t.Errorf("Run returned %v", d.err)
		}
	})
}

// Wrong settings that only show when they are used end the daemon at once, with the setting's name.
func TestListenAddressInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	taken := strings.TrimPrefix(w.receiver(nil).URL, "http://")
	cfg := w.config()
	cfg.Listen = taken
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	a, err := app.New(cfg, app.Options{Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	err = a.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_LISTEN") || !strings.Contains(err.Error(), taken) {
		t.Errorf("Run returned %v", err)
	}
}

// A configuration that New refuses leaves nothing running, which the leak check of this package
// would tell.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	cfg := w.config()
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	cfg.KafkaCAFile, cfg.KafkaTLS = "testdata/none.pem", "on"
	_, err := app.New(cfg, app.Options{Version: "1.2.3"})
	if err == nil || !strings.Contains(err.Error(), "WEBHOOK_DISPATCHER_KAFKA_CA_FILE") {
		t.Errorf("New returned %v", err)
	}
}
