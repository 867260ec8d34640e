package rule

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// events are what rules of real systems want most.
var events = [...]string{
	"COURSE_ENROLLMENT_CREATED", "COURSE_ENROLLMENT_CHANGED", "COURSE_UNENROLLMENT_COMPLETED", "STUDENT_REGISTRATION_COMPLETED",
	"SESSION_LOGIN_COMPLETED", "CERTIFICATE_CREATED", "CERTIFICATE_CHANGED", "CERTIFICATE_REVOKED", "BADGE_AWARDED",
	"COHORT_MEMBERSHIP_CHANGED",
}

// mixedRows makes rows as a database does: no two texts share memory.
func mixedRows(n int) []Row {
	list := rows(n)
	for i := range list {
		list[i].Event = strings.Clone(events[i%len(events)])
		list[i].URL = fmt.Sprintf("https://hooks-%05d.example.org/openedx/v1/receive?token=%024d", i, i)
		list[i].Modified = list[i].Created
	}
	return list
}

// given is a Source that hands out what it was given.
type given struct {
	rows    []Row
	options []Option
}

func (g *given) Webhooks(context.Context) ([]Row, error)   { return g.rows, nil }
func (g *given) Options(context.Context) ([]Option, error) { return g.options, nil }

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			s := NewSnapshot(mixedRows(n), nil, catalogue(b))
			b.ReportAllocs()
			for b.Loop() {
				if len(s.Match(enrollmentCreated)) == 0 {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkActive(b *testing.B) {
	s := NewSnapshot(mixedRows(10_000), nil, catalogue(b))
	lane := delivery.Lane{Kind: delivery.KindWebhook, RuleID: 7777}
	b.ReportAllocs()
	for b.Loop() {
		if s.Active(lane) == nil {
			b.Fatal("not active")
		}
	}
}

// BenchmarkRefresh is what 10,000 rules cost every period beside the reading itself. heap-B/rule is what a snapshot keeps alive, the texts
// of its rows included.
func BenchmarkRefresh(b *testing.B) {
	refresher := func(b *testing.B, source *given) *Refresher {
		r, err := New(Options{Source: source, Catalogue: catalogue(b), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		return r
	}
	refresh := func(b *testing.B, r *Refresher) {
		if err := r.Refresh(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("first", func(b *testing.B) {
		source := &given{rows: mixedRows(10_000)}
		for b.Loop() {
			refresh(b, refresher(b, source))
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		r := refresher(b, &given{rows: mixedRows(10_000)})
		refresh(b, r)
		for b.Loop() {
			refresh(b, r)
		}
	})
	b.Run("one changed", func(b *testing.B) {
		source := &given{rows: mixedRows(10_000)}
		r := refresher(b, source)
		refresh(b, r)
		for b.Loop() {
			source.rows[5000].Modified = source.rows[5000].Modified.Add(time.Microsecond)
			refresh(b, r)
		}
	})
	b.Run("heap", func(b *testing.B) {
		const n = 10_000
		for b.Loop() {
			source := &given{rows: mixedRows(n)}
			r := refresher(b, source)
			refresh(b, r)
			*source = given{}
			with := liveHeap()
			runtime.KeepAlive(r)
			r.current.Store(nil)
			b.ReportMetric(float64(with-liveHeap())/n, "heap-B/rule")
		}
	})
}

// BenchmarkMatchBesideRefresh matches without a pause while every rule changes again and again. gap-ms is the longest time that 100 matches
// took; it means something only on a machine that does nothing else, beside that of "no refresh".
func BenchmarkMatchBesideRefresh(b *testing.B) {
	for name, refreshes := range map[string]bool{"no refresh": false, "all changed": true} {
		b.Run(name, func(b *testing.B) {
			source := &given{rows: mixedRows(10_000)}
			r, err := New(Options{Source: source, Catalogue: catalogue(b)})
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
			var stop atomic.Bool
			longest := make(chan time.Duration)
			go func() {
				var gap time.Duration
				for !stop.Load() {
					began := time.Now()
					for range 100 {
						r.Current().Match(enrollmentCreated)
					}
					gap = max(gap, time.Since(began))
				}
				longest <- gap
			}()
			for b.Loop() {
				if !refreshes {
					<-time.After(20 * time.Millisecond)
					continue
				}
				for i := range source.rows {
					source.rows[i].Modified = source.rows[i].Modified.Add(time.Microsecond)
				}
				if err := r.Refresh(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			stop.Store(true)
			b.ReportMetric(float64(<-longest)/float64(time.Millisecond), "gap-ms")
		})
	}
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
