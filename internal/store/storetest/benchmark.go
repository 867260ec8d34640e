package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// Benchmark measures the queue on a real server: rows of 1 KB inserted, claimed and finished, and the latency of a claim with a
// million rows waiting. Rates are rows/s.
func Benchmark(b *testing.B, target Target) {
	b.Run("Insert", func(b *testing.B) {
		q := newBench(b, target, true)
		rows := kilobytes(0, 500)
		n := 0
		for b.Loop() {
			for i := range rows {
				n++
				rows[i].ID = idOf(n)
			}
			q.insert(b, rows...)
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("ClaimFinish", func(b *testing.B) {
		const room, lanes = 64, 4 // lanes are worked on at the same time
		q := newBench(b, target, true)
		q.fill(b, 1<<17)
		mustExec(b, q.admin, "UPDATE webhook_dispatcher_delivery SET rule_id = 1 + MOD(id, ?)", lanes)
		var next, sent atomic.Int32
		b.SetParallelism(max(1, lanes/runtime.GOMAXPROCS(0)))
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			rule := 1 + next.Add(1)%lanes
			for pb.Next() {
				if err := q.claimFinish(b.Context(), rule, room); err != nil {
					b.Error(err)
					return
				}
				sent.Add(room)
			}
		})
		b.ReportMetric(float64(sent.Load())/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("Million", func(b *testing.B) {
		q := newBench(b, target, true)
		q.fill(b, 1_000_000)
		mustExec(b, q.admin, "UPDATE webhook_dispatcher_delivery SET rule_id = 1 + MOD(id, 20)")
		mustExec(b, q.admin, "UPDATE webhook_dispatcher_delivery SET state = 2, due_at = NULL WHERE rule_id = 2")
		b.Run("Claim", func(b *testing.B) { // one row: the claim itself, not the bodies
			quantiles(b, func(n int) { q.claim(b, 3+int32(n%18), 1, time.Hour, tokenOf(1)) })
		})
		b.Run("Claim64", func(b *testing.B) {
			quantiles(b, func(n int) { q.claim(b, 3+int32(n%18), 64, time.Hour, tokenOf(1)) })
		})
		b.Run("DueLanes", func(b *testing.B) {
			quantiles(b, func(int) {
				_, err := q.store.DueLanes(b.Context())
				must(b, err)
			})
		})
		b.Run("QueueStats", func(b *testing.B) {
			quantiles(b, func(int) {
				_, err := q.store.QueueStats(b.Context())
				must(b, err)
			})
		})
	})
}

// claimFinish claims room rows and writes their results: three of four delivered, one pending again.
func (b *bench) claimFinish(ctx context.Context, rule int32, room int) error {
	token := delivery.Token(randomBytes())
	rows, err := b.store.Claim(ctx, lane(rule), room, time.Hour, token)
	if err != nil {
		return err
	}
	if len(rows) < room {
		return fmt.Errorf("lane %d ran empty", rule)
	}
	updates := make([]delivery.Update, len(rows))
	for i, row := range rows {
		updates[i] = delivery.Update{ID: row.ID, Token: token, State: delivery.Delivered, Attempts: 1, Claims: 1, LastStatus: 200}
		if i%4 == 0 {
			updates[i].State, updates[i].Delay = delivery.Pending, time.Duration(3600+rand.IntN(600))*time.Second
		}
	}
	_, err = b.store.Finish(ctx, updates)
	return err
}

func quantiles(b *testing.B, f func(n int)) {
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		f(len(took))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}

func kilobytes(from, to int) []delivery.Insert {
	rows := pendings(from, to)
	for i := range rows {
		rows[i].Body = make([]byte, 1024)
		for j := range rows[i].Body {
			rows[i].Body[j] = byte(' ' + (i+j)%90)
		}
	}
	return rows
}

// fill makes n rows of lane 1 that are due, with bodies of 1 KB, inside the server.
func (b *bench) fill(t testing.TB, n int) {
	t.Helper()
	b.insert(t, kilobytes(0, 500)...)
	for have := 500; have < n; have = min(n, 2*have) {
		mustExec(t, b.admin, `INSERT INTO webhook_dispatcher_delivery
  (webhook_id, kind, rule_id, state, due_at, event_type, event_id, body_format, body_size, body, created_at, updated_at)
  SELECT UNHEX(LEFT(SHA2(CONCAT(id, '-', ?), 256), 32)), kind, rule_id, state,
  DATE_SUB(due_at, INTERVAL FLOOR(RAND() * 1000) SECOND),
  event_type, event_id, body_format, body_size, body, created_at, updated_at FROM webhook_dispatcher_delivery LIMIT ?`,
			have, min(have, n-have))
	}
}
