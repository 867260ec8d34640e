package app_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/app"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for each other's timers far more than they compute, so as many as there are
	// may run at once.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	topic = "dev-events"
	group = "dev-webhook-dispatcher"
	// patience is for what takes milliseconds, on a machine that is busy with something else.
	patience = 60 * time.Second

	canary     = "canary-d41d8cd9" // in paths, queries and user infos of all URLs
	dsnCanary  = "canary-dsn-7c21"
	capturedID = "457f0c26-a1a5-11ed-afe6-0242ac140007" // the event id in all fixtures
)

// world is what a daemon lives in: broker, registry, database and a log that everything is written
// to.
type world struct {
	t        *testing.T
	broker   *fakes.Broker
	registry *fakes.Registry
	gate     *gate // before the database
	store    *store.Store
	sql      *sql.DB
	log      *logBuffer
	shown    *logBuffer // what the health servers answered
}

// newWorld starts one partition's worth of it, with migrated tables. When the test has ended no
// canary may be in the log.
func newWorld(t *testing.T, partitions int32) *world {
	t.Helper()
	w := emptyWorld(t, partitions)
	if _, err := store.Migrate(t.Context(), store.Options{DSN: w.dsn()}, store.MigrateOptions{WithPluginTables: true}); err != nil {
		t.Fatal(err)
	}
	return w
}

// emptyWorld is a world whose database has no tables.
func emptyWorld(t *testing.T, partitions int32) *world {
	t.Helper()
	w := &world{t: t, log: &logBuffer{}, shown: &logBuffer{}}
	db, err := fakes.StartDatabase()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	parsed, err := mysql.ParseDSN(db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	w.gate = openGate(t, parsed.Addr)
	if w.sql, err = sql.Open("mysql", db.DSN()+"?parseTime=true"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.sql.Close() })
	if w.store, err = store.Open(store.Options{DSN: db.DSN()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	if w.registry, err = fakes.StartRegistry(fakes.RegistryOptions{Path: "/apis/ccompat/v7", FirstID: 7}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.registry.Close() })
	if w.broker, err = fakes.StartBroker(fakes.BrokerOptions{Topics: map[string]int32{topic: partitions}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.broker.Close)
	t.Cleanup(func() {
		for _, secret := range []string{canary, dsnCanary, "andres", "@example.", "@aulasneo", "example.edu", "-value"} {
			if line := w.log.find(secret); line != "" {
				t.Errorf("%q is in the log: %s", secret, line)
			}
			if line := w.shown.find(secret); line != "" {
				t.Errorf("%q is in an answer of the health server: %s", secret, line)
			}
		}
		if t.Failed() {
			t.Logf("log of the daemons:\n%s", w.log.tail(80))
		}
	})
	return w
}

// dsn leads through the gate. The embedded database takes any password.
func (w *world) dsn() string {
	return fmt.Sprintf("root:%s@tcp(%s)/%s", dsnCanary, w.gate.addr(), fakes.DatabaseName)
}

func (w *world) config() *config.Config {
	cfg := config.Default()
	cfg.LogLevel = "debug"
	cfg.BootstrapServers, cfg.SchemaRegistryURL = w.broker.Addrs(), w.registry.URL()
	cfg.TopicPrefix, cfg.Topics, cfg.StartOffset = "dev", []string{"events"}, "earliest"
	cfg.MySQLDSN = config.Secret(w.dsn())
	cfg.RulesRefresh = 100 * time.Millisecond
	cfg.Timeout, cfg.HandOffAfter = 5*time.Second, 500*time.Millisecond
	cfg.RetrySchedule = []time.Duration{200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond}
	cfg.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Listen = "127.0.0.1:0"
	return &cfg
}

// daemon is a running app.
type daemon struct {
	w    *world
	app  *app.App
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run; read after done
}

// start runs a daemon until the test ends or it is ended.
func (w *world) start(change func(cfg *config.Config)) *daemon {
	w.t.Helper()
	cfg := w.config()
	if change != nil {
		change(cfg)
	}
	if err := cfg.Check(); err != nil {
		w.t.Fatal(err)
	}
	logger := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := app.New(cfg, app.Options{Version: "1.2.3", Revision: "test", Logger: logger})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{w: w, app: a, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.err = a.Run(ctx)
	}()
	w.t.Cleanup(func() {
		d.get("/metrics")
		d.get("/readyz")
		cancel()
		<-d.done
	})
	return d
}

// end stops the daemon and fails the test where that is no clean end within the promised time.
func (d *daemon) end() {
	d.w.t.Helper()
	began := time.Now()
	d.stop()
	<-d.done
	if d.err != nil {
		d.w.t.Errorf("Run returned %v", d.err)
	}
	if took := time.Since(began); took > 25*time.Second {
		d.w.t.Errorf("stopping took %s", took)
	}
}

// get asks the daemon's health server; status 0 while it does not answer.
func (d *daemon) get(path string) (status int, body string) {
	addr := d.app.Addr()
	if addr == nil {
		return 0, ""
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := plainClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	_, _ = d.w.shown.Write(text)
	return resp.StatusCode, string(text)
}

var plainClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}

// metric returns the value of a series as /metrics spells it.
func (d *daemon) metric(series string) string {
	_, text := d.get("/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "none"
}

// rule adds a webhook rule and returns its id.
func (w *world) rule(event, url string, form bool) int32 {
	w.t.Helper()
	id, err := w.store.AddWebhook(w.t.Context(), rule.Row{Event: event, URL: url, Enabled: true, Form: form}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) exec(query string, args ...any) {
	w.t.Helper()
	if _, err := w.sql.ExecContext(w.t.Context(), query, args...); err != nil {
		w.t.Fatal(err)
	}
}

// row is what a test looks at of a delivery's row.
type row struct {
	ID               string
	Rule             int32
	State, Attempts  int
	Status, BodySize int
	Reason           string
}

func (w *world) rows() []row {
	w.t.Helper()
	return query(w, `SELECT HEX(webhook_id), rule_id, state, attempts, last_status, body_size, reason
  FROM webhook_dispatcher_delivery ORDER BY id`,
		func(scan func(...any) error) (r row, err error) {
			err = scan(&r.ID, &r.Rule, &r.State, &r.Attempts, &r.Status, &r.BodySize, &r.Reason)
			r.ID = "msg_" + strings.ToLower(r.ID)
			return r, err
		})
}

// waiting returns the rows that have not ended.
func (w *world) waiting() []row {
	return slices.DeleteFunc(w.rows(), func(r row) bool { return delivery.State(r.State).Ended() })
}

// reasons returns the reasons of all undecodable records, by offset.
func (w *world) reasons() []string {
	w.t.Helper()
	return query(w, `SELECT reason FROM webhook_dispatcher_undecodable ORDER BY record_offset`,
		func(scan func(...any) error) (s string, err error) { return s, scan(&s) })
}

// attempts returns status and class of all logged attempts.
func (w *world) attempts() []string {
	w.t.Helper()
	return query(w, `SELECT CONCAT(number, ':', status, error_class) FROM webhook_dispatcher_attempt ORDER BY id`,
		func(scan func(...any) error) (s string, err error) { return s, scan(&s) })
}

func query[T any](w *world, text string, read func(scan func(...any) error) (T, error)) []T {
	w.t.Helper()
	rows, err := w.sql.QueryContext(w.t.Context(), text)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := read(rows.Scan)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// committed returns the group's position in a partition, -1 where there is none.
func (w *world) committed(partition int32) int64 {
	at, err := w.broker.Committed(w.t.Context(), group, topic, partition)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return -1
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}

func (w *world) waitCommitted(partition int32, want int64) {
	w.t.Helper()
	wait(w.t, fmt.Sprintf("the commit of %d in partition %d", want, partition), func() (bool, string) {
		at := w.committed(partition)
		return at == want, fmt.Sprint(at)
	})
}

// wait looks until a condition holds. What the condition returns beside that is shown when it never
// does.
func wait(t *testing.T, what string, holds func() (ok bool, state string)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := holds()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s; it stands at %s", what, state)
		}
	}
}
