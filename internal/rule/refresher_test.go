package rule

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is a Source whose rows, options and errors a test sets.
type table struct {
	mu      sync.Mutex
	rows    []Row
	filters []WebfilterRow
	err     error
	options []Option
	hang    bool
	reads   int
}

func (s *table) Rules(ctx context.Context) (Tables, error) {
	s.mu.Lock()
	read, err, hang := Tables{
		Webhooks: slices.Clone(s.rows), Webfilters: slices.Clone(s.filters), Options: slices.Clone(s.options),
	}, s.err, s.hang
	s.reads++
	s.mu.Unlock()
	if hang {
		<-ctx.Done()
		return Tables{}, ctx.Err()
	}
	return read, err
}

func (s *table) set(change func(*table)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func newRefresher(t *testing.T, source Source) (*Refresher, *bytes.Buffer, *prometheus.Registry) {
	t.Helper()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := New(Options{Source: source, Compiler: compiler(t), Logger: logger, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	return r, &log, registry
}

func TestNewRefusesWrongOptions(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]Options{
		"no source":    {Compiler: compiler(t)},
		"no catalogue": {Source: &table{}},
		"period":       {Source: &table{}, Compiler: compiler(t), Period: -1},
	} {
		if _, err := New(options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A failure to load must not look like no rules: Load waits, and nothing can be matched meanwhile.
func TestLoadWaitsForTheFirstSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &table{rows: rows(2), err: errors.New("connection refused")}
		r, log, registry := newRefresher(t, source)
		loaded := make(chan error)
		go func() { loaded <- r.Load(t.Context()) }()
		pass(time.Minute)
		if err := r.Ready(t.Context()); r.Current() != nil || err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("ready: %v, snapshot %v", err, r.Current())
		}
		if n := strings.Count(log.String(), "cannot be read"); n != 1 {
			t.Errorf("the failure was logged %d times, want once:\n%s", n, log)
		}
		if source.reads < 8 || source.reads > 12 {
			t.Errorf("%d tries in a minute", source.reads)
		}
		source.set(func(s *table) { s.err = nil })
		if err := <-loaded; err != nil {
			t.Fatal(err)
		}
		if len(r.Current().Match(enrollmentCreated)) != 2 || r.Ready(t.Context()) != nil {
			t.Error("not loaded")
		}
		if n, err := testutil.GatherAndCount(registry); err != nil || n != 15 {
			t.Errorf("%d series, %v", n, err)
		}
	})
}

func TestLoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := newRefresher(t, &table{err: errors.New("access denied")})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Load(ctx); err == nil || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("error %v does not say why", err)
		}
	})
}

func TestRunKeepsTheLastGoodSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &table{rows: rows(3)}
		r, log, registry := newRefresher(t, source)
		if err := r.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); r.Run(ctx) }()
		first := r.Current()

		pass(20 * time.Second)
		if r.Current() != first {
			t.Error("unchanged rows were compiled again")
		}

		source.set(func(s *table) { s.err = errors.New("gone away") })
		pass(30 * time.Second)
		if r.Current() != first || r.Ready(t.Context()) != nil {
			t.Error("a failed refresh replaced the rules")
		}
		if n := strings.Count(log.String(), "gone away"); n != 1 {
			t.Errorf("one failure was logged %d times:\n%s", n, log)
		}
		if age := float64(time.Now().UnixMicro())/1e6 - r.lastRefresh(); age < 30 || age > 36 {
			t.Errorf("age %v", age)
		}

		source.set(func(s *table) { s.err, s.hang = nil, true })
		pass(30 * time.Second)
		source.set(func(s *table) { s.hang, s.rows = false, rows(4); s.rows[3].URL = "ftp://u:s3cret@h/s3cret" })
		pass(20 * time.Second)
		if now := r.Current(); now == first || len(now.Entries(Webhooks)) != 4 || now.Count(Webhooks, Faulty) != 1 {
			t.Errorf("the change did not arrive: %+v", now)
		}
		source.set(func(s *table) { s.rows[0].Enabled = false })
		pass(10 * time.Second)
		cancel()
		<-ended
		for text, want := range map[string]int{
			"rules loaded": 1, "rules can be read again": 1, "rules changed": 2, `fault="the URL's scheme \"ftp\"`: 1, "s3cret": 0,
			"deadline exceeded": 1, "target=https://h": 9,
		} {
			if n := strings.Count(log.String(), text); n != want {
				t.Errorf("%q was logged %d times, want %d:\n%s", text, n, want, log)
			}
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP webhook_dispatcher_rules Rows of the webhook table by status: active, released, paused, disabled, foreign, faulty.
# TYPE webhook_dispatcher_rules gauge
webhook_dispatcher_rules{status="active"} 2
webhook_dispatcher_rules{status="disabled"} 1
webhook_dispatcher_rules{status="faulty"} 1
webhook_dispatcher_rules{status="foreign"} 0
webhook_dispatcher_rules{status="paused"} 0
webhook_dispatcher_rules{status="released"} 0
`), "webhook_dispatcher_rules"); err != nil {
			t.Error(err)
		}
		if n := testutil.ToFloat64(r.metrics.failed); n < 7 || n > 10 {
			t.Errorf("%v failures counted", n)
		}
	})
}

// An older reading must never replace a newer one.
func TestRefreshesAreSerial(t *testing.T) {
	t.Parallel()
	source := &table{rows: rows(1)}
	r, _, _ := newRefresher(t, source)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			source.set(func(s *table) { s.rows = rows(i + 1) })
			if err := r.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	want := len(source.rows)
	if got := len(r.Current().Entries(Webhooks)); got != want {
		t.Errorf("%d rules after all refreshes, the table has %d", got, want)
	}
}
