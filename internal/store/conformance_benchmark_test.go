package store_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// benchmark measures the queue on a real server: rows with JSON bodies of about 1 KiB inserted, claimed and finished, and the
// latency of a claim with a million rows waiting. server-us/row and client-us/row are CPU time, which a busy machine changes little; the
// server's includes what it does behind the scenes.
func benchmark(b *testing.B, target target) {
	b.Run("Insert", func(b *testing.B) {
		q := newBench(b, target, true)
		b.Log(q.settings(b))
		rows := kilobytes(0, 500)
		n := 0
		used := q.cpu(b)
		for b.Loop() {
			for i := range rows {
				n++
				rows[i].ID = idOf(n)
			}
			q.insert(b, rows...)
		}
		used.report(b, n)
	})
	for _, room := range []int{16, 32, 64} {
		b.Run(fmt.Sprintf("ClaimFinish%d", room), func(b *testing.B) {
			const lanes = 4 // are worked on at the same time
			q := newBench(b, target, true)
			q.fill(b, 1<<17, lanes)
			var next, sent atomic.Int32
			b.SetParallelism(max(1, lanes/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			used := q.cpu(b)
			b.RunParallel(func(pb *testing.PB) {
				rule := 1 + next.Add(1)%lanes
				for pb.Next() {
					if err := q.claimFinish(b.Context(), rule, room); err != nil {
						b.Error(err)
						return
					}
					sent.Add(int32(room))
				}
			})
			used.report(b, int(sent.Load()))
		})
	}
	b.Run("Million", func(b *testing.B) {
		const lanes = 20
		q := newBench(b, target, true)
		q.fill(b, 1_000_000, lanes)
		b.Log(q.settings(b))
		for _, room := range []int{1, 16, 32, 64} {
			b.Run(fmt.Sprintf("Claim%d", room), func(b *testing.B) {
				rows := 0
				used := q.cpu(b)
				quantiles(b, func(n int) { rows += len(q.claim(b, 1+int32(n%lanes), room, time.Hour, tokenOf(1))) })
				used.report(b, rows)
			})
		}
		b.Run("DueLanes", func(b *testing.B) {
			quantiles(b, func(int) {
				_, err := q.store.DueLanes(b.Context())
				must(b, err)
			})
		})
		b.Run("MeasureLanes", func(b *testing.B) {
			quantiles(b, func(int) {
				_, err := q.store.MeasureLanes(b.Context(), 0)
				must(b, err)
			})
		})
	})
}

// settings says what the server's numbers depend on.
func (b *bench) settings(t testing.TB) string {
	t.Helper()
	return one[string](t, b.admin, `SELECT CONCAT(@@version, ', innodb_buffer_pool_size ', @@innodb_buffer_pool_size >> 20, ' MiB, '
  'innodb_flush_log_at_trx_commit ', @@innodb_flush_log_at_trx_commit, ', log_bin ', @@log_bin, ', innodb_flush_method ',
  @@innodb_flush_method)`)
}

// usage is CPU time so far.
type usage struct {
	pid            string // of the server; empty where it runs elsewhere
	server, client time.Duration
	began          time.Time
}

func (b *bench) cpu(t testing.TB) usage {
	t.Helper()
	u := usage{client: processorTime("self"), began: time.Now()}
	file := one[string](t, b.admin, "SELECT IF(@@pid_file LIKE '/%', @@pid_file, CONCAT(@@datadir, @@pid_file))")
	if pid, err := os.ReadFile(file); err == nil {
		u.pid = strings.TrimSpace(string(pid))
		u.server = processorTime(u.pid)
	}
	return u
}

// report reports what n rows have cost since.
func (u usage) report(b *testing.B, n int) {
	b.Helper()
	rows := float64(max(n, 1))
	b.ReportMetric(rows/time.Since(u.began).Seconds(), "rows/s")
	b.ReportMetric(float64((processorTime("self")-u.client).Microseconds())/rows, "client-us/row")
	if u.pid != "" {
		b.ReportMetric(float64((processorTime(u.pid)-u.server).Microseconds())/rows, "server-us/row")
	}
}

// processorTime returns what a process has used so far, 0 where the system does not tell.
func processorTime(pid string) time.Duration {
	const tick = 10 * time.Millisecond
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick
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

// kilobytes returns rows with bodies of about 1 KiB, like those of the platform's events.
func kilobytes(from, to int) []delivery.Insert {
	rows := pendings(from, to)
	for i := range rows {
		n := from + i
		rows[i].EventType = "org.openedx.learning.course.enrollment.created.v1"
		rows[i].EventID = fmt.Sprintf("%08x-5f2a-11ef-9c31-%012x", n*2654435761%(1<<32), n)
		rows[i].Body = fmt.Appendf(nil, `{"enrollment": {"user": {"id": %d, "is_active": true, "pii": {"username": "learner_%d", `+
			`"email": "learner_%d@example.com", "name": "Learner Number %d"}}, "course": {"course_key": "course-v1:Org%d+CS10%d+2026_T%d", `+
			`"display_name": "Introduction to Computer Science %d", "start": "2026-02-0%d 08:00:00+00:00", "end": null}, "mode": "verified", `+
			`"is_active": true, "creation_date": "2026-03-0%d 11:%02d:%02d.%06d+00:00", "created_by": null}, "event_metadata": {"id": `+
			`"%08x-5f2a-11ef-9c31-%012x", "event_type": "org.openedx.learning.course.enrollment.created.v1", "minorversion": 0, "source": `+
			`"openedx/lms/web", "sourcehost": "lms-%010x-%05x", "time": "2026-03-0%d 11:%02d:%02d.%06d+00:00", "sourcelib": [9, 11, 0]}, `+
			`"labels": [%s]}`,
			n, n, n, n, n%17, n%9, n%3, n%50, 1+n%9, 1+n%9, n%60, n%59, n*7919%1_000_000, n*2654435761%(1<<32), n,
			n*48271%(1<<31), n%99991, 1+n%9, n%60, n%59, n*104729%1_000_000,
			strings.Repeat(fmt.Sprintf(`"%x", `, n*69621%(1<<31)), 14)+`"end"`)
	}
	return rows
}

// fill makes n rows that are due, of so many lanes, inside the server: each with a place of its own in the order of its lane that is near
// that of its making, as it is when rows of one time fail and are put off by the same delay, give or take a fifth.
func (b *bench) fill(t testing.TB, n, lanes int) {
	t.Helper()
	b.insert(t, kilobytes(0, 500)...)
	for have := 500; have < n; have = min(n, 2*have) {
		mustExec(t, b.admin, `INSERT INTO webhook_dispatcher_delivery
  (webhook_id, kind, rule_id, state, due_at, event_type, event_id, body_format, body_size, body, created_at, updated_at)
  SELECT UNHEX(LEFT(SHA2(CONCAT(id, '-', ?), 256), 32)), kind, 1 + MOD(id * 7919, ?), state, due_at,
  event_type, event_id, body_format, body_size, body, created_at, updated_at FROM webhook_dispatcher_delivery LIMIT ?`,
			have, lanes, min(have, n-have))
	}
	// Rows came in at 1000 a second and were put off by 5 minutes.
	mustExec(t, b.admin, `UPDATE webhook_dispatcher_delivery SET rule_id = 1 + MOD(id * 7919, ?), due_at = DATE_ADD(
  DATE_SUB(UTC_TIMESTAMP(3), INTERVAL 1 DAY), INTERVAL id * 1000 + ROUND(300000000 * (0.8 + 0.4 * RAND())) MICROSECOND)`, lanes)
	mustExec(t, b.admin, "ANALYZE TABLE webhook_dispatcher_delivery") //nolint:misspell // SQL's word
	// Cleaning up after the fill is none of what is measured. MySQL has no such wait.
	_, _ = b.admin.ExecContext(t.Context(), "SET GLOBAL innodb_max_purge_lag_wait = 0")
}
