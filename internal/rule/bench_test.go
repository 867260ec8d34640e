package rule

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
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

// mixedOptions makes an option with a filter, limits and a sealed signing secret for each row, as a database does.
func mixedOptions(list []Row) []Option {
	options := make([]Option, len(list))
	for i := range list {
		options[i] = Option{
			Key: Key{Webhooks, list[i].ID}, RuleCreated: list[i].Created, Enabled: true, AdoptedAt: list[i].Created,
			URLSum: URLSum(list[i].URL), KeyID: "k1", Version: 1,
			Document: fmt.Sprintf(`{"filter":"$data.user.id %% 10 == %d","timeout":"5s","concurrency":8,"signing":{"scheme":"standard"}}`, i%10),
			Sealed:   fmt.Sprintf(`{"signing":[{"secret":"whsec_%s"}]}`, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%032d", i))),
		}
	}
	return options
}

// unsealed opens what is not sealed.
type unsealed struct{}

// Open implements Opener.
func (unsealed) Open(_ Key, _, _ string, text []byte) ([]byte, error) { return text, nil }

// given is a Source that hands out what it was given.
type given struct {
	rows    []Row
	options []Option
}

func (g *given) Rules(context.Context) (Tables, error) {
	return Tables{Webhooks: g.rows, Options: g.options}, nil
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			s := NewSnapshot(Tables{Webhooks: mixedRows(n)}, compiler(b))
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
	s := NewSnapshot(Tables{Webhooks: mixedRows(10_000)}, compiler(b))
	rule := key(7777)
	b.ReportAllocs()
	for b.Loop() {
		if s.Active(rule) == nil {
			b.Fatal("not active")
		}
	}
}

// BenchmarkRefresh is what 10,000 rules cost every period beside the reading itself. heap-B/rule is what a snapshot keeps alive, the texts
// of its rows included.
func BenchmarkRefresh(b *testing.B) {
	refresher := func(b *testing.B, source *given) *Refresher {
		all := &Compiler{Catalogue: catalogue(b), Opener: unsealed{}}
		r, err := New(Options{Source: source, Compiler: all, Logger: slog.New(slog.DiscardHandler)})
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
	withOptions := func() *given {
		list := mixedRows(10_000)
		return &given{rows: list, options: mixedOptions(list)}
	}
	b.Run("options, first", func(b *testing.B) {
		source := withOptions()
		for b.Loop() {
			r := refresher(b, source)
			refresh(b, r)
			if n := r.Current().Count(Webhooks, Active); n != len(source.rows) {
				b.Fatalf("%d rules are active", n)
			}
		}
	})
	b.Run("options, unchanged", func(b *testing.B) {
		r := refresher(b, withOptions())
		refresh(b, r)
		for b.Loop() {
			refresh(b, r)
		}
	})
	b.Run("options, one changed", func(b *testing.B) {
		source := withOptions()
		r := refresher(b, source)
		refresh(b, r)
		for b.Loop() {
			source.options[5000].Version++
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
			r, err := New(Options{Source: source, Compiler: compiler(b)})
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
