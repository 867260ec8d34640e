package rule

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/backoff"
)

// slow is a Source whose readings take some time, and which notes when they began.
type slow struct {
	table

	took  time.Duration
	began []time.Time
}

func (s *slow) Rules(ctx context.Context) (Tables, error) {
	s.set(func(*table) { s.began = append(s.began, time.Now()) })
	read, err := s.table.Rules(ctx)
	if pauseErr := backoff.Sleep(ctx, s.took); pauseErr != nil {
		return Tables{}, pauseErr
	}
	return read, err
}

// gaps returns the times from the begin of a reading to that of the next.
func (s *slow) gaps() []time.Duration {
	var gaps []time.Duration
	for i := range s.began[1:] {
		gaps = append(gaps, s.began[i+1].Sub(s.began[i]))
	}
	return gaps
}

// loaded returns a Refresher that has read a source once.
func loaded(t *testing.T, source Source) *Refresher {
	t.Helper()
	r, _, _ := newRefresher(t, source)
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// What an event needs that came after the last reading is one that began later: neither the last one, nor one under way.
func TestFreshReadsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &slow{table: table{rows: rows(1)}, took: time.Second}
		r := loaded(t, source)
		old := r.Current()
		if s, err := r.Fresh(t.Context(), source.began[0]); s != old || err != nil || len(source.began) != 1 {
			t.Errorf("read anew for what the last reading has: %v, %d readings", err, len(source.began))
		}
		source.set(func(s *table) { s.rows = rows(2) })
		go func() { _ = r.Refresh(t.Context()) }() // sees two rows, and ends in a second
		pass(500 * time.Millisecond)
		source.set(func(s *table) { s.rows = rows(3) })
		s, err := r.Fresh(t.Context(), time.Now())
		if err != nil || len(s.Entries(Webhooks)) != 3 || r.Current() != s {
			t.Errorf("a snapshot from before the event: %v", err)
		}
		// The same rows again are as fresh as the reading that brought them.
		pass(time.Minute)
		again, err := r.Fresh(t.Context(), time.Now())
		if err != nil || again != s || r.since(time.Now().Add(-1001*time.Millisecond)) != s {
			t.Errorf("the reading does not count: %v", err)
		}
		if n := len(source.began); n != 4 {
			t.Errorf("%d readings, want 4", n)
		}
	})
}

// All who wait at the same time share one reading.
func TestFreshIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &slow{table: table{rows: rows(1)}, took: time.Second}
		r := loaded(t, source)
		pass(time.Minute)
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				if _, err := r.Fresh(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		if n := len(source.began); n != 2 {
			t.Errorf("%d readings beside the first, want 1", n-1)
		}
	})
}

// A moment that lies ahead is waited for.
func TestFreshWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &slow{table: table{rows: rows(1)}}
		r := loaded(t, source)
		since := time.Now().Add(3 * time.Second)
		if _, err := r.Fresh(t.Context(), since); err != nil {
			t.Fatal(err)
		}
		if began := source.began[len(source.began)-1]; began.Before(since) || time.Since(since) > leastSpacing {
			t.Errorf("read %s before the moment", since.Sub(began))
		}
	})
}

// However many ask, the database sees few readings, and each of them serves all who have been waiting.
func TestForcedReadingsAreFew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		took, gap time.Duration
	}{
		"quick":     {time.Millisecond, 100 * time.Millisecond},
		"slow":      {20 * time.Millisecond, 400 * time.Millisecond},
		"very slow": {time.Second, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				source := &slow{table: table{rows: rows(1)}, took: c.took}
				r := loaded(t, source)
				pass(time.Minute)
				source.began = source.began[:0]
				var asking sync.WaitGroup
				for range 50 { // partitions, each of which has something all the time
					asking.Go(func() {
						for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
							if _, err := r.Fresh(t.Context(), time.Now()); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				asking.Wait()
				gaps := source.gaps()
				if least := slices.Min(gaps); least < c.gap {
					t.Errorf("%s between two readings, want %s at least", least, c.gap)
				}
				if want := int(18 * time.Second / (c.gap + c.took)); len(gaps) < want {
					t.Errorf("%d readings in 20 s, want %d at least: all wait for them", len(gaps)+1, want)
				}
			})
		})
	}
}

// A failure is waited out, said by Ready, and never read as no match. The database is left in peace meanwhile.
func TestFreshOutlivesFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &slow{table: table{rows: rows(1)}}
		r := loaded(t, source)
		pass(time.Minute)
		source.set(func(s *table) { s.err = errors.New("connection refused") })
		source.began = source.began[:0]
		var got [3]*Snapshot
		var asking sync.WaitGroup
		for i := range got {
			asking.Go(func() {
				var err error
				if got[i], err = r.Fresh(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
			})
		}
		pass(time.Minute)
		if got[0] != nil || len(source.began) > 20 {
			t.Errorf("an answer after a failure, or %d readings in a minute", len(source.began))
		}
		if err := r.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") ||
			!strings.Contains(err.Error(), "events wait") {
			t.Errorf("ready: %v", err)
		}
		source.set(func(s *table) { s.err, s.rows = nil, rows(2) })
		restored := time.Now()
		asking.Wait()
		if waited := time.Since(restored); waited > mostSpacing {
			t.Errorf("the events wait for another %s", waited)
		}
		for _, s := range got {
			if s == nil || len(s.Entries(Webhooks)) != 2 {
				t.Errorf("snapshot %v", s)
			}
		}
		if err := r.Ready(t.Context()); err != nil {
			t.Errorf("ready: %v", err)
		}
		// A failure that nobody waits for is none of readiness.
		source.set(func(s *table) { s.err = errors.New("gone away") })
		if err := r.Refresh(t.Context()); err == nil || r.Ready(t.Context()) != nil {
			t.Errorf("refresh: %v, ready: %v", err, r.Ready(t.Context()))
		}
		// After a success the next failure is tried again soon.
		pass(time.Minute)
		source.began = source.began[:0]
		asking.Go(func() { _, _ = r.Fresh(t.Context(), time.Now()) })
		pass(time.Second)
		source.set(func(s *table) { s.err = nil })
		asking.Wait()
		if n := len(source.began); n < 4 {
			t.Errorf("%d readings in the first second", n)
		}
	})
}

// A partition that is taken away must not wait for a database that hangs, nor for somebody else's reading.
func TestFreshEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &slow{table: table{rows: rows(1)}}
		r := loaded(t, source)
		pass(time.Minute)
		source.took = time.Hour
		var asking sync.WaitGroup
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Second)
			defer cancel()
			asking.Go(func() {
				began := time.Now()
				if s, err := r.Fresh(ctx, time.Now()); err == nil || s != nil || time.Since(began) != time.Duration(i+1)*time.Second {
					t.Errorf("%v after %s", err, time.Since(began))
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Fresh(ctx, time.Now().Add(time.Hour)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited for what lies ahead: %v", err)
		}
		asking.Wait()
		if err := r.Ready(t.Context()); err != nil {
			t.Errorf("a reading cut short counts as a failure: %v", err)
		}
		source.took = 0
		if _, err := r.Fresh(t.Context(), time.Now()); err != nil {
			t.Errorf("nothing works any more: %v", err)
		}
	})
}

// The switch as a whole: the event was emitted after the commit of an adoption that the last periodic reading did not see.
func TestAdoptionIsNotMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &table{rows: rows(1)}
		source.rows[0].Modified = time.Now()
		r, _, _ := newRefresher(t, source)
		r.options.Compiler = &Compiler{Catalogue: catalogue(t), Adopted: true}
		if err := r.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.Current(); !s.Contended(enrollmentCreated) || s.Wants(enrollmentCreated, time.Now(), time.Time{}) {
			t.Fatal("the plugin's row is ours, or is not contended")
		}
		pass(time.Second)
		now := time.Now()
		source.set(func(s *table) {
			s.rows[0].Enabled, s.rows[0].Modified = false, now
			s.options = []Option{{
				Key: Key{Webhooks, 1}, RuleCreated: s.rows[0].Created, Enabled: true, AdoptedAt: now,
			}}
		})
		emitted := now.Add(time.Millisecond)
		pass(2 * time.Millisecond)
		if r.Current().Wants(enrollmentCreated, emitted, time.Time{}) {
			t.Error("the old snapshot knows it")
		}
		s, err := r.Fresh(t.Context(), time.Now())
		if err != nil || !s.Wants(enrollmentCreated, emitted, time.Time{}) || s.Contended(enrollmentCreated) {
			t.Errorf("an event from after the adoption is not wanted: %v", err)
		}
	})
}
