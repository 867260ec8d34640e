// The conformance suite of the store: its promises, tried on any database.
package store_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// target is a database server to run the suite on.
type target struct {
	Name string
	// DSN is of an account that may create databases and, for a real server, accounts. Its database needs not exist on a real server.
	DSN string
	// Real servers have accounts, locks and limits of their own; the embedded database has none of these.
	Real bool
}

// environment returns the real servers that the environment names.
func environment() []target {
	var targets []target
	for _, server := range [...]struct{ name, variable string }{
		{"mariadb", "WEBHOOK_DISPATCHER_TEST_MARIADB_DSN"},
		{"mysql", "WEBHOOK_DISPATCHER_TEST_MYSQL_DSN"},
	} {
		if dsn := os.Getenv(server.variable); dsn != "" {
			targets = append(targets, target{Name: server.name, DSN: dsn, Real: true})
		}
	}
	return targets
}

// runConformance runs the suite. Each case has a database of its own, and on a real server accounts
// with exactly the grants that operators give:
// for serve, SELECT on the plugin's tables and SELECT, INSERT, UPDATE, DELETE on the dispatcher's; for rules also INSERT and UPDATE on
// the plugin's.
func runConformance(t *testing.T, target target) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bench)
		real bool // needs a real server
	}{
		{"insert/states", insertStates, false},
		{"insert/none", insertNone, false},
		{"insert/ten thousand", insertMany, false},
		{"insert/large", insertLarge, false},
		{"insert/rejected", insertRejected, false},
		{"insert/invalid text", insertInvalidText, false},
		{"insert/round trip", insertRoundTrip, false},
		{"insert/deadlock", insertDeadlock, true},
		{"claim/order and room", claimOrder, false},
		{"claim/lease run out", claimRunOut, false},
		{"claim/given back", claimGivenBack, false},
		{"claim/bytes", claimBytes, false},
		{"claim/cut short", claimCutShort, true},
		{"claim/disjoint", claimDisjoint, false},
		{"claim/skips locked", claimSkipsLocked, true},
		{"claim/due lanes", dueLanes, false},
		{"finish/transitions", finishTransitions, false},
		{"finish/halted", finishHalted, false},
		{"finish/fenced", finishFenced, false},
		{"finish/many", finishMany, false},
		{"kill lane", killLane, false},
		{"list/filters", listFilters, false},
		{"list/order and limit", listLimit, false},
		{"list/one", listOne, false},
		{"replay/rows", replayRows, false},
		{"replay/all dead", replayAllDead, false},
		{"replay/beside prune", replayBesidePrune, false},
		{"replay/standings", standings, false},
		{"replay/restore", restore, false},
		{"replay/ended pages", endedPages, false},
		{"replay/waiting", waitingRows, false},
		{"rules", rules, false},
		{"rules/enable and disable", setEnabled, false},
		{"rules/add with an option", addWithOption, false},
		{"options/change", changeOption, false},
		{"options/change of the URL", changeURL, false},
		{"options/of an earlier rule", earlierRule, false},
		{"options/change at once", changeAtOnce, false},
		{"options/reseal", reseal, false},
		{"adopt/release", adopt, false},
		{"adopt/contested", adoptContested, false},
		{"adopt/many", adoptMany, false},
		{"adopt/beside others", adoptBeside, false},
		{"adopt/beside Django", adoptBesideDjango, true},
		{"webfilters", webfilters, false},
		{"webfilters/change", changeWebfilter, false},
		{"webfilters/enable and disable", ofWebfilters(setEnabled), false},
		{"webfilters/add with an option", ofWebfilters(addWithOption), false},
		{"webfilters/options", ofWebfilters(changeOption), false},
		{"webfilters/change of the URL", ofWebfilters(changeURL), false},
		{"webfilters/of an earlier rule", ofWebfilters(earlierRule), false},
		{"webfilters/reseal", ofWebfilters(reseal), false},
		{"webfilters/adopt and release", ofWebfilters(adopt), false},
		{"webfilters/adopt contested", ofWebfilters(adoptContested), false},
		{"webfilters/adopt many", ofWebfilters(adoptMany), false},
		{"webfilters/adopt beside Django", ofWebfilters(adoptBesideDjango), true},
		{"webfilters/pause", ofWebfilters(pauseRule), false},
		{"webfilters/pause keeps options", ofWebfilters(pauseKeepsOptions), false},
		{"finish event", finishEvent, false},
		{"finish event/refused", finishEventRefused, false},
		{"finish event/undone", finishEventUndone, true},
		{"finish event/at once", finishEventAtOnce, false},
		{"attempts", attempts, false},
		{"undecodable", undecodable, false},
		{"undecodable/list", listUndecodable, false},
		{"undecodable/numbers", undecodableIDs, false},
		{"undecodable/redeliver", redeliver, false},
		{"undecodable/redeliver undone", redeliverUndone, true},
		{"undecodable/redeliver at once", redeliverAtOnce, false},
		{"topics", topics, false},
		{"prune", prune, false},
		{"prune/expire", expire, false},
		{"prune/undecodable", pruneUndecodable, false},
		{"pause rule", pauseRule, false},
		{"pause rule/keeps options", pauseKeepsOptions, false},
		{"pause rule/at once", pauseAtOnce, false},
		{"lanes/failing", markFailing, false},
		{"lanes/measured", measureLanes, false},
		{"lanes/measured at once", measureAtOnce, false},
		{"lanes/measured, many", measureMany, false},
		{"lanes/attempts", countAttempts, false},
		{"lanes/no table", noLaneTable, false},
		{"strict", strict, false},
		{"errors quote no values", errorsQuoteNothing, true},
		{"migrate/again", migrateAgain, false},
		{"migrate/at once", migrateAtOnce, false},
		{"migrate/after a crash", migrateAfterCrash, false},
		{"migrate/behind and ahead", schemaVersions, false},
		{"migrate/plugin tables", pluginTables, false},
		{"migrate/beside Django", besideDjango, false},
		{"grants", grants, true},
	} {
		if c.real && !target.Real {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, newBench(t, target, true))
		})
	}
}

// bench is a database with its accounts.
type bench struct {
	target   target
	database string
	admin    *sql.DB // all rights
	adminDSN string
	serveDSN string
	rulesDSN string
	kind     rule.Table   // of the rules that the case is about
	store    *store.Store // as serve has it
	rules    *store.Store // as the rules commands have it
}

const password = "p%ss:w@rd/?#"

var ownTables = [...]string{"delivery", "attempt", "undecodable", "rule_option", "inbox", "topic", "lane", "migration"}

func newBench(t testing.TB, target target, migrated bool) *bench {
	t.Helper()
	base, err := mysql.ParseDSN(target.DSN)
	if err != nil {
		t.Fatalf("parse DSN of %s: %v", target.Name, err)
	}
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		t.Fatal(err)
	}
	b := &bench{target: target, kind: rule.Webhooks, database: "wd_" + hex.EncodeToString(random[:])}
	server := base.Clone()
	if target.Real {
		server.DBName = ""
	}
	root, err := sql.Open("mysql", server.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	mustExec(t, root, "CREATE DATABASE "+b.database)
	t.Cleanup(func() { mustExec(t, root, "DROP DATABASE "+b.database) })
	cfg := base.Clone()
	cfg.DBName, cfg.ParseTime = b.database, true
	b.adminDSN = cfg.FormatDSN()
	if b.admin, err = sql.Open("mysql", b.adminDSN); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.admin.Close() })
	b.serveDSN = b.adminDSN
	b.rulesDSN = b.adminDSN
	if migrated {
		b.migrate(t, store.MigrateOptions{WithPluginTables: true})
		if target.Real {
			b.serveDSN = b.account(t, root, cfg, b.database+"_serve", "SELECT")
			b.rulesDSN = b.account(t, root, cfg, b.database+"_rules", "SELECT, INSERT, UPDATE")
		}
	}
	b.store = openStore(t, b.serveDSN, nil)
	b.rules = openStore(t, b.rulesDSN, nil)
	return b
}

// account creates an account and returns its DSN, as a URL.
func (b *bench) account(t testing.TB, root *sql.DB, cfg *mysql.Config, name, onPlugin string) string {
	t.Helper()
	mustExec(t, root, fmt.Sprintf("CREATE USER '%s'@'%%' IDENTIFIED BY '%s'", name, password))
	t.Cleanup(func() { mustExec(t, root, fmt.Sprintf("DROP USER '%s'@'%%'", name)) })
	for _, table := range ownTables {
		mustExec(t, root, fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s.webhook_dispatcher_%s TO '%s'@'%%'", b.database, table, name))
	}
	for _, table := range [...]string{"openedx_webhooks_webhook", "openedx_webhooks_webfilter"} {
		mustExec(t, root, fmt.Sprintf("GRANT %s ON %s.%s TO '%s'@'%%'", onPlugin, b.database, table, name))
	}
	return fmt.Sprintf("mysql://%s:%s@%s/%s", name, "p%25ss%3Aw%40rd%2F%3F%23", cfg.Addr, b.database)
}

func (b *bench) migrate(t testing.TB, o store.MigrateOptions) store.Migrated {
	t.Helper()
	done, err := store.Migrate(t.Context(), store.Options{DSN: b.adminDSN}, o)
	if err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	return done
}

func openStore(t testing.TB, dsn string, log *slog.Logger) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{DSN: dsn, Logger: log})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func mustExec(t testing.TB, db *sql.DB, statement string, args ...any) {
	t.Helper()
	// Not the test's context: clean-up runs after its end.
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// one reads the single value of a query.
func one[T any](t testing.TB, db *sql.DB, query string, args ...any) T {
	t.Helper()
	var value T
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// atLeast checks that a number is at least another.
func atLeast[T cmp.Ordered](t testing.TB, what string, got, least T) {
	t.Helper()
	if got < least {
		t.Errorf("%s: got %v, want at least %v", what, got, least)
	}
}
