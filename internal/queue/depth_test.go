package queue_test

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

// laneTable stands for the lane records, which replicas share. What waits is what the test says.
type laneTable struct {
	mu       sync.Mutex
	err      error // of measuring
	takes    time.Duration
	waiting  map[delivery.Lane]delivery.LaneRecord
	measured map[delivery.Lane]delivery.LaneRecord
	at       time.Time // of the newest measurement
	times    []time.Time
	reads    int
}

func (s *laneTable) MeasureLanes(ctx context.Context, every time.Duration) (bool, error) {
	s.mu.Lock()
	if s.err != nil || (!s.at.IsZero() && time.Since(s.at) < every) {
		defer s.mu.Unlock()
		return false, s.err
	}
	began, takes := time.Now(), s.takes
	s.at = began
	s.times = append(s.times, began)
	numbers := make(map[delivery.Lane]delivery.LaneRecord)
	maps.Copy(numbers, s.waiting)
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return false, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measured = numbers
	return true, nil
}

func (s *laneTable) LaneRecords(context.Context) (delivery.LaneRecords, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	var records delivery.LaneRecords
	if s.measured != nil {
		records = delivery.LaneRecords{DeadRows: 7, Measured: true, MeasuredFor: time.Since(s.at)}
	}
	for l, r := range s.measured {
		r.Lane = l
		records.Lanes = append(records.Lanes, r)
	}
	return records, nil
}

func (s *laneTable) set(l delivery.Lane, rows int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[l] = delivery.LaneRecord{Rows: rows, Bytes: bytes, DueFor: time.Duration(rows) * time.Second}
}

// fail makes measuring fail, or work again.
func (s *laneTable) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// measurements returns how many there were in the last d.
func (s *laneTable) measurements(d time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, at := range s.times {
		if time.Since(at) < d {
			n++
		}
	}
	return n
}

// replica is a process, its gauge running.
type replica struct {
	gauge  *queue.DepthMonitor
	writer *queue.Writer
	reg    *prometheus.Registry
	db     *database
}

// withGauge runs two replicas' gauges; the test gets the first, and a writer that counts for it.
func withGauge(
	t *testing.T, o queue.DepthMonitorOptions, test func(t *testing.T, s *laneTable, r replica),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &laneTable{waiting: make(map[delivery.Lane]delivery.LaneRecord)}
		reg := prometheus.NewRegistry()
		o.Store = s
		other, err := queue.NewDepthMonitor(o)
		if err != nil {
			t.Fatal(err)
		}
		o.Registerer = reg
		g, err := queue.NewDepthMonitor(o)
		if err != nil {
			t.Fatal(err)
		}
		db := &database{}
		w, err := queue.NewWriter(queue.WriterOptions{Store: db, Depth: g})
		if err != nil {
			t.Fatal(err)
		}
		w.Start(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { g.Run(ctx) })
		running.Go(func() { other.Run(ctx) })
		test(t, s, replica{g, w, reg, db})
		cancel()
		running.Wait()
		if err := w.Stop(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func enqueuedRow(n byte, l delivery.Lane, state delivery.State) delivery.Insert {
	in := row(n)
	in.Kind, in.RuleID, in.State, in.Delay = l.Kind, l.RuleID, state, time.Minute
	return in
}

func TestOneReplicaMeasuresAndAllShowIt(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{PerRule: true}, func(t *testing.T, s *laneTable, r replica) {
		s.set(lane1, 3, 300)
		s.set(lane2, 5, 50)
		pass(10 * time.Minute)
		if n := s.measurements(10 * time.Minute); n < 15 || n > 21 {
			t.Errorf("measured %d times in 10 minutes, want about every 30 s, by one replica", n)
		}
		names := []string{"queue_rows", "queue_bytes", "queue_lanes", "queue_lanes_failing", "queue_oldest_due_seconds", "rule_rows"}
		for i := range names {
			names[i] = "webhook_dispatcher_" + names[i]
		}
		reads := s.reads
		if err := testutil.GatherAndCompare(r.reg, strings.NewReader(strings.NewReplacer(
			"SAME", "The same on every replica: use max, not sum.",
			"OLDEST", "Time since the oldest due row became due, including rows of disabled and paused rules; 0 if none is due.",
		).Replace(`
# HELP webhook_dispatcher_queue_bytes Total body size of waiting rows. SAME
# TYPE webhook_dispatcher_queue_bytes gauge
webhook_dispatcher_queue_bytes 350
# HELP webhook_dispatcher_queue_rules Rules with waiting rows. SAME
# TYPE webhook_dispatcher_queue_rules gauge
webhook_dispatcher_queue_rules 2
# HELP webhook_dispatcher_queue_rules_failing Rules whose endpoint has accepted nothing from any replica for 10 minutes. SAME
# TYPE webhook_dispatcher_queue_rules_failing gauge
webhook_dispatcher_queue_rules_failing 0
# HELP webhook_dispatcher_queue_oldest_due_seconds OLDEST SAME
# TYPE webhook_dispatcher_queue_oldest_due_seconds gauge
webhook_dispatcher_queue_oldest_due_seconds 5
# HELP webhook_dispatcher_queue_rows Rows in the database by state: waiting (pending or leased) or dead. SAME
# TYPE webhook_dispatcher_queue_rows gauge
webhook_dispatcher_queue_rows{state="dead"} 7
webhook_dispatcher_queue_rows{state="waiting"} 8
# HELP webhook_dispatcher_rule_rows Waiting rows of a rule; absent if there are none. SAME
# TYPE webhook_dispatcher_rule_rows gauge
webhook_dispatcher_rule_rows{rule_id="1"} 3
webhook_dispatcher_rule_rows{rule_id="2"} 5
`)), names...); err != nil {
			t.Error(err)
		}
		if s.reads != reads {
			t.Error("a scrape touches the database")
		}
		s.mu.Lock()
		delete(s.waiting, lane1)
		s.mu.Unlock()
		pass(time.Minute)
		if n, err := testutil.GatherAndCount(r.reg, "webhook_dispatcher_rule_rows"); err != nil || n != 1 {
			t.Errorf("%d series of rules, %v; want one, of the lane that has rows", n, err)
		}
	})
}

func TestNoSeriesOfRulesUnlessAskedFor(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{}, func(t *testing.T, s *laneTable, r replica) {
		s.set(lane1, 3, 300)
		pass(time.Minute)
		if n, err := testutil.GatherAndCount(r.reg, "webhook_dispatcher_rule_rows"); err != nil || n != 0 {
			t.Errorf("%d series of rules, %v", n, err)
		}
	})
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestQueueLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits       queue.Limits
		lane1, lane2 bool // full
	}{
		"none":           {queue.Limits{}, false, false},
		"rule":           {queue.Limits{RuleRows: 10}, true, false},
		"rule, not yet":  {queue.Limits{RuleRows: 11}, false, false},
		"rows":           {queue.Limits{Rows: 13}, true, true},
		"rows, not yet":  {queue.Limits{Rows: 14}, false, false},
		"bytes":          {queue.Limits{Bytes: 130}, true, true},
		"bytes, not yet": {queue.Limits{Bytes: 131}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withGauge(t, queue.DepthMonitorOptions{Limits: c.limits}, func(t *testing.T, s *laneTable, r replica) {
				s.set(lane1, 10, 100)
				s.set(lane2, 3, 30)
				pass(time.Minute)
				if r.gauge.Full(lane1) != c.lane1 || r.gauge.Full(lane2) != c.lane2 {
					t.Errorf("full: %v and %v, want %v and %v", r.gauge.Full(lane1), r.gauge.Full(lane2), c.lane1, c.lane2)
				}
			})
		})
	}
}

func TestOwnRowsCountAtOnceAndOnce(t *testing.T) {
	t.Parallel()
	limits := queue.Limits{RuleRows: 100}
	withGauge(t, queue.DepthMonitorOptions{Limits: limits}, func(t *testing.T, s *laneTable, r replica) {
		full := func(when string, want bool) {
			t.Helper()
			if got := r.gauge.Full(lane1); got != want {
				t.Errorf("%s: full %v, want %v", when, got, want)
			}
		}
		s.set(lane1, 60, 0)
		pass(time.Minute)
		s.fail(errAway) // no measurement until all are in
		for n := range byte(40) {
			if n == 39 {
				pass(time.Second)
				full("one row before the limit", false)
			}
			r.writer.Enqueue(enqueuedRow(n, lane1, delivery.Pending), nil, func() {})
		}
		pass(100 * time.Millisecond)
		full("at the limit", true)
		if full := r.gauge.Full(lane2); full {
			t.Error("the limit of a rule holds for another")
		}
		s.set(lane1, 90, 0) // ten of them have been sent since; the measurement sees the others, too
		s.fail(nil)
		pass(40 * time.Second)
		full("measured since", false)
		if used := gauge(t, r.reg, "webhook_dispatcher_queue_limit_used_ratio"); used != 0.9 {
			t.Errorf("used %v, want 0.9: own rows count once", used)
		}
	})
}

func TestRowsThatThisProcessEndsCountNoMore(t *testing.T) {
	t.Parallel()
	limits := queue.Limits{RuleRows: 3}
	withGauge(t, queue.DepthMonitorOptions{Limits: limits}, func(t *testing.T, s *laneTable, r replica) {
		s.fail(errAway)           // nothing but its own counts
		for n := range byte(10) { // a slow endpoint: each is handed off, and taken
			r.writer.Enqueue(enqueuedRow(n, lane1, delivery.Leased), nil, func() {})
			pass(time.Second)
			r.writer.Settle(delivery.Update{ID: delivery.ID{n}, State: delivery.Delivered})
			pass(time.Second)
			if r.gauge.Full(lane1) {
				t.Fatalf("full after %d rows that have ended", n+1)
			}
		}
		dead := enqueuedRow(100, lane1, delivery.Dead)
		r.writer.Enqueue(dead, nil, func() {})
		for n := byte(20); n < 22; n++ {
			r.writer.Enqueue(enqueuedRow(n, lane1, delivery.Leased), nil, func() {})
		}
		pass(time.Second)
		r.writer.Settle(delivery.Update{ID: delivery.ID{20}, State: delivery.Pending}) // waits again
		pass(time.Second)
		if r.gauge.Full(lane1) {
			t.Error("full with two rows: dead ones do not wait")
		}
		r.writer.Enqueue(enqueuedRow(30, lane1, delivery.Pending), nil, func() {})
		pass(time.Hour) // however long measuring fails
		if !r.gauge.Full(lane1) {
			t.Error("not full with three rows, although measuring fails")
		}
	})
}

// A row that somebody else has by now waits, or has been counted by them.
func TestResultsThatAreLostChangeNoCount(t *testing.T) {
	t.Parallel()
	limits := queue.Limits{RuleRows: 1}
	withGauge(t, queue.DepthMonitorOptions{Limits: limits}, func(t *testing.T, s *laneTable, r replica) {
		s.fail(errAway)
		r.db.lost = []delivery.ID{{1}}
		r.writer.Enqueue(enqueuedRow(1, lane1, delivery.Leased), nil, func() {})
		pass(time.Second)
		r.writer.Settle(delivery.Update{ID: delivery.ID{1}, State: delivery.Delivered})
		pass(time.Second)
		if !r.gauge.Full(lane1) {
			t.Error("a lost result counts")
		}
	})
}

func TestClaimedRowsThatEndCountNoMore(t *testing.T) {
	t.Parallel()
	limits := queue.Limits{RuleRows: 10}
	withGauge(t, queue.DepthMonitorOptions{Limits: limits}, func(t *testing.T, s *laneTable, r replica) {
		s.set(lane1, 10, 0)
		pass(time.Minute)
		s.fail(errAway) // nothing but its own counts
		rows := &table{due: map[delivery.Lane][]time.Time{}, tokens: map[delivery.Token]bool{}, claims: 1}
		rows.add(lane1, 1, 0)
		sent := &lanes{room: map[delivery.Lane]int{lane1: 1}, got: map[delivery.Lane]int{}}
		c, err := queue.NewClaimer(queue.ClaimerOptions{
			Store: rows, Consumers: consumers(sent), Settle: func(delivery.Update) {}, Depth: r.gauge,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c.Run(ctx)
		if !r.gauge.Full(lane1) {
			t.Fatal("not full before the row has ended")
		}
		r.writer.Settle(delivery.Update{State: delivery.Delivered}) // the table's rows have the zero id
		pass(time.Second)
		if r.gauge.Full(lane1) {
			t.Error("full although a claimed row has ended")
		}
	})
}

func TestLimitClearsSoonAfterRowsHaveGone(t *testing.T) {
	t.Parallel()
	limits := queue.Limits{Rows: 100}
	withGauge(t, queue.DepthMonitorOptions{Limits: limits}, func(t *testing.T, s *laneTable, r replica) {
		s.set(lane1, 100, 0)
		pass(2 * time.Minute)
		if !r.gauge.Full(lane1) {
			t.Fatal("not full")
		}
		s.set(lane1, 99, 0)
		pass(12 * time.Second)
		if r.gauge.Full(lane1) {
			t.Error("still full 12 s after a row has gone")
		}
		pass(10 * time.Minute)
		if n := s.measurements(5 * time.Minute); n < 40 {
			t.Errorf("%d measurements in 5 minutes while much of a limit is used", n)
		}
		s.set(lane1, 10, 0)
		pass(10 * time.Minute)
		if n := s.measurements(5 * time.Minute); n > 11 {
			t.Errorf("%d measurements in 5 minutes while little of the limit is used", n)
		}
	})
}

func TestMeasuringTakesAShareOfTheTime(t *testing.T) {
	t.Parallel()
	limits := queue.Limits{Rows: 100}
	withGauge(t, queue.DepthMonitorOptions{Limits: limits}, func(t *testing.T, s *laneTable, r replica) {
		s.mu.Lock()
		s.takes = 6 * time.Second
		s.mu.Unlock()
		s.set(lane1, 100, 0)
		pass(time.Hour)
		if n := s.measurements(time.Hour); n < 30 || n > 62 {
			t.Errorf("%d measurements of 6 s in an hour, want about one a minute", n)
		}
		if age := sinceUnix(gauge(t, r.reg, "webhook_dispatcher_queue_last_measured_timestamp_seconds")); age < 0 || age > 75 {
			t.Errorf("measured %v s ago", age)
		}
		if !r.gauge.Full(lane1) {
			t.Error("not full")
		}
	})
}

func TestMeasurementThatTakesTooLongIsTriedLessOften(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{}, func(t *testing.T, s *laneTable, _ replica) {
		s.mu.Lock()
		s.takes = time.Hour
		s.mu.Unlock()
		pass(3 * time.Hour)
		if n := s.measurements(2 * time.Hour); n < 10 || n > 26 {
			t.Errorf("%d measurements of 30 s in two hours, want about one in five minutes", n)
		}
	})
}

func TestMeasurementsThatFailLeaveTheLastNumbers(t *testing.T) {
	t.Parallel()
	withGauge(t, queue.DepthMonitorOptions{}, func(t *testing.T, s *laneTable, r replica) {
		s.set(lane1, 3, 300)
		pass(time.Minute)
		s.fail(errAway)
		pass(time.Hour)
		if n := gauge(t, r.reg, "webhook_dispatcher_queue_bytes"); n != 300 {
			t.Errorf("%v bytes, want the last known", n)
		}
		if age := sinceUnix(gauge(t, r.reg, "webhook_dispatcher_queue_last_measured_timestamp_seconds")); age < 3500 {
			t.Errorf("measured %v s ago, want an hour", age)
		}
	})
}

func TestNeverMeasured(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	if _, err := queue.NewDepthMonitor(queue.DepthMonitorOptions{Store: &laneTable{}, Registerer: reg}); err != nil {
		t.Fatal(err)
	}
	if at := gauge(t, reg, "webhook_dispatcher_queue_last_measured_timestamp_seconds"); at != 0 {
		t.Errorf("measured at %v, want 0", at)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	if _, err := queue.NewDepthMonitor(queue.DepthMonitorOptions{}); err == nil {
		t.Error("a gauge without a store")
	}
	if _, err := queue.NewDepthMonitor(queue.DepthMonitorOptions{Store: &laneTable{}, Limits: queue.Limits{Rows: -1}}); err == nil {
		t.Error("a limit below 0")
	}
}

// sinceUnix returns the seconds since a Unix time, by the test's clock.
func sinceUnix(seconds float64) float64 { return float64(time.Now().UnixMicro())/1e6 - seconds }
