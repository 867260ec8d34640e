package queue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

var errAway = errors.New("database away")

// database stands for the store. Every call takes latency, and fails while it is away.
type database struct {
	mu       sync.Mutex
	away     bool
	latency  time.Duration
	calls    int
	largest  int
	rows     []delivery.Insert
	results  []delivery.Update
	attempts []delivery.Attempt
	lost     []delivery.ID
	refuse   func(delivery.Insert) bool
}

func (s *database) call(ctx context.Context, size int) error {
	s.mu.Lock()
	latency := s.latency
	s.mu.Unlock()
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.largest = max(s.largest, size)
	if s.away {
		return errAway
	}
	return nil
}

func (s *database) Insert(ctx context.Context, rows []delivery.Insert) error {
	if err := s.call(ctx, len(rows)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var rejected []delivery.Rejected
	for i, r := range rows {
		if s.refuse != nil && s.refuse(r) {
			rejected = append(rejected, delivery.Rejected{Index: i, ID: r.ID})
			continue
		}
		s.rows = append(s.rows, r)
	}
	if rejected != nil {
		return &delivery.RejectedError{Rows: rejected}
	}
	return nil
}

func (s *database) Finish(ctx context.Context, updates []delivery.Update) ([]delivery.ID, error) {
	if err := s.call(ctx, len(updates)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, updates...)
	return s.lost, nil
}

func (s *database) FinishEvent(ctx context.Context, id delivery.ID, _ delivery.Token, rows []delivery.Insert) (bool, error) {
	if err := s.call(ctx, len(rows)); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.lost, id) {
		return false, nil
	}
	s.rows = append(s.rows, rows...)
	return true, nil
}

func (s *database) LogAttempts(ctx context.Context, attempts []delivery.Attempt) error {
	if err := s.call(ctx, len(attempts)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, attempts...)
	return nil
}

func (s *database) MaxBody() int { return 1 << 20 }

func (s *database) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *database) stored() []delivery.Insert {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rows)
}

func withWriter(t *testing.T, db *database, test func(t *testing.T, w *queue.Writer, reg *prometheus.Registry)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		w, err := queue.NewWriter(queue.WriterOptions{Store: db, Registerer: reg})
		if err != nil {
			t.Fatal(err)
		}
		w.Start(t.Context())
		test(t, w, reg)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func row(n byte) delivery.Insert {
	return delivery.Insert{Delivery: delivery.Delivery{ID: delivery.ID{n}, Body: []byte("{}")}}
}

func TestRowsAreBatchedAndConfirmed(t *testing.T) {
	t.Parallel()
	db := &database{latency: 10 * time.Millisecond}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, _ *prometheus.Registry) {
		var mu sync.Mutex
		stored := 0
		for range 1200 {
			w.Enqueue(row(1), nil, func() {
				mu.Lock()
				defer mu.Unlock()
				stored++
			})
		}
		pass(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if stored != 1200 || len(db.stored()) != 1200 {
			t.Errorf("%d confirmed, %d stored, want 1200", stored, len(db.stored()))
		}
		db.mu.Lock()
		defer db.mu.Unlock()
		if db.calls > 4 || db.largest > 500 {
			t.Errorf("%d calls, the largest of %d rows; want few of 500 at most", db.calls, db.largest)
		}
	})
}

func TestRowsOutliveADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	db := &database{away: true}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, _ *prometheus.Registry) {
		stored := make(chan struct{}, 3)
		for n := range byte(3) {
			w.Enqueue(row(n), nil, func() { stored <- struct{}{} })
		}
		w.Settle(delivery.Update{ID: delivery.ID{7}})
		pass(time.Hour)
		if len(stored) != 0 {
			t.Error("confirmed although nothing is stored")
		}
		db.mu.Lock()
		if db.calls > 2000 {
			t.Errorf("%d tries in an hour: that is a loop without backoff", db.calls)
		}
		db.mu.Unlock()
		db.setAway(false)
		pass(10 * time.Second)
		if len(stored) != 3 || len(db.stored()) != 3 || len(db.results) != 1 {
			t.Errorf("%d confirmed, rows %v, results %v", len(stored), db.stored(), db.results)
		}
	})
}

func TestUnwantedRowIsNotWritten(t *testing.T) {
	t.Parallel()
	db := &database{away: true}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, _ *prometheus.Registry) {
		var mu sync.Mutex
		wanted := true
		w.Enqueue(row(1), func() bool {
			mu.Lock()
			defer mu.Unlock()
			return wanted
		}, func() { t.Error("confirmed a row that was given up") })
		pass(10 * time.Second) // it has been tried meanwhile
		mu.Lock()
		wanted = false
		mu.Unlock()
		db.setAway(false)
		pass(10 * time.Second)
		if rows := db.stored(); len(rows) != 0 {
			t.Errorf("rows = %v", rows)
		}
	})
}

func TestReadyTellsWhatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for what, write := range map[string]func(w *queue.Writer){
		"rows":    func(w *queue.Writer) { w.Enqueue(row(1), nil, nil) },
		"results": func(w *queue.Writer) { w.Settle(delivery.Update{ID: delivery.ID{1}}) },
	} {
		db := &database{away: true}
		withWriter(t, db, func(t *testing.T, w *queue.Writer, _ *prometheus.Registry) {
			if err := w.Ready(); err != nil {
				t.Errorf("%s: %v before anything was written", what, err)
			}
			write(w)
			pass(time.Minute)
			if err := w.Ready(); !errors.Is(err, errAway) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v, want them named, and the database's error", what, err)
			}
			db.setAway(false)
			pass(time.Minute)
			if err := w.Ready(); err != nil {
				t.Errorf("%s: %v although they are written", what, err)
			}
		})
	}
}

// Asking may have effects: a hand-off whose result has come says no, and lets its result count
// instead.
func TestRowThatWasGivenUpIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	db := &database{away: true}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, _ *prometheus.Registry) {
		var asked atomic.Int32
		no := func() bool { asked.Add(1); return false }
		w.Enqueue(row(1), nil, nil)
		w.Enqueue(row(2), no, func() { t.Error("confirmed a row that was given up") })
		pass(time.Minute)
		if got := asked.Load(); got != 1 {
			t.Errorf("asked %d times, want once", got)
		}
		db.setAway(false)
	})
}

func TestRowsThatAreNotWantedDoNotGatherWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	db := &database{away: true}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, _ *prometheus.Registry) {
		var asked, stored, dropped atomic.Int32
		w.Enqueue(row(1), nil, func() { stored.Add(1) })
		pass(time.Second)      // a batch of its own, which fails
		for n := range 2_000 { // four batches behind it
			w.Enqueue(row(byte(n%250)), func() bool {
				if asked.Add(1); dropped.Load() == 0 || n%2 == 0 {
					return true
				}
				w.Enqueue(row(251), nil, func() { stored.Add(1) }) // asking may add rows
				return false
			}, func() { stored.Add(1) })
		}
		pass(10 * time.Second)
		dropped.Store(1)
		pass(10 * time.Second)
		before := asked.Load()
		pass(10 * time.Second)
		if tries := (asked.Load() - before) / 1000; (asked.Load()-before)%1000 != 0 || tries == 0 || tries > 3 {
			t.Errorf("asked %d times more, want the 1000 rows that are left, once a try", asked.Load()-before)
		}
		db.setAway(false)
		pass(time.Minute)
		if got := stored.Load(); got != 1+1000+1000 {
			t.Errorf("%d rows confirmed, want 2001", got)
		}
	})
}

func TestRefusedRowIsKeptWithoutItsBody(t *testing.T) {
	t.Parallel()
	db := &database{refuse: func(in delivery.Insert) bool { return in.ID[0] == 2 && in.Body != nil }}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, reg *prometheus.Registry) {
		stored := make(chan byte, 3)
		for n := range byte(3) {
			w.Enqueue(row(n+1), nil, func() { stored <- n + 1 })
		}
		pass(time.Second)
		if len(stored) != 3 {
			t.Fatalf("%d of 3 confirmed", len(stored))
		}
		for _, r := range db.stored() {
			if dead := r.State == delivery.Dead && r.Reason == delivery.ReasonTooLarge; dead != (r.ID[0] == 2) {
				t.Errorf("row %+v", r)
			}
		}
		if n := counter(t, reg, "webhook_dispatcher_rows_rejected_total"); n != 1 {
			t.Errorf("%v rejected, want 1", n)
		}
	})
}

func TestRowRefusedForGoodIsNeverConfirmed(t *testing.T) {
	t.Parallel()
	db := &database{refuse: func(in delivery.Insert) bool { return in.ID[0] == 2 }}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, _ *prometheus.Registry) {
		w.Enqueue(row(1), nil, func() {})
		w.Enqueue(row(2), nil, func() { t.Error("confirmed a row that is not stored") })
		pass(time.Minute)
		if rows := db.stored(); len(rows) != 1 {
			t.Errorf("rows = %v, want the other one", rows)
		}
	})
}

func TestAttemptLogNeverHoldsUp(t *testing.T) {
	t.Parallel()
	db := &database{away: true}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, reg *prometheus.Registry) {
		for range 15_000 {
			w.Log(delivery.Attempt{})
		}
		w.Enqueue(row(1), nil, func() {})
		db.setAway(false)
		pass(10 * time.Second)
		dropped := counter(t, reg, "webhook_dispatcher_attempts_dropped_total")
		db.mu.Lock()
		defer db.mu.Unlock()
		if len(db.attempts)+int(dropped) != 15_000 || dropped == 0 {
			t.Errorf("%d logged and %v counted as dropped, want 15000 in all", len(db.attempts), dropped)
		}
	})
}

func TestLostResultsAreCounted(t *testing.T) {
	t.Parallel()
	db := &database{lost: []delivery.ID{{1}}}
	withWriter(t, db, func(t *testing.T, w *queue.Writer, reg *prometheus.Registry) {
		w.Settle(delivery.Update{ID: delivery.ID{1}})
		pass(time.Second)
		if n := counter(t, reg, "webhook_dispatcher_results_discarded_total"); n != 1 {
			t.Errorf("%v discarded, want 1", n)
		}
	})
}

func TestCloseGivesUpOnADatabaseThatStaysAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, err := queue.NewWriter(queue.WriterOptions{Store: &database{away: true}})
		if err != nil {
			t.Fatal(err)
		}
		w.Start(t.Context())
		w.Enqueue(row(1), nil, func() { t.Error("confirmed") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v, want the deadline", err)
		}
	})
}

func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s; have %d, lint: %v", name, len(families), func() any { p, _ := testutil.GatherAndLint(reg); return p }())
	return 0
}

// pass lets fake time pass, in a test: what works beside it waits for time.After alone.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait() // so that what is due at the same instant has run
}
