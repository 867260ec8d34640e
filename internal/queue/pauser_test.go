package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

// marks stands for the lane records and the option table, which replicas share.
type marks struct {
	mu       sync.Mutex
	away     bool
	since    map[delivery.Lane]time.Time // the marks
	set      int                         // how often a mark was set where there was none
	attempts int                         // in the log, each of a moment before
	counted  int
	paused   map[delivery.Lane]delivery.Reason
	pauses   int
	gone     map[delivery.Lane]bool // rules
}

func (s *marks) LaneRecords(context.Context) (delivery.LaneRecords, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return delivery.LaneRecords{}, errAway
	}
	var records delivery.LaneRecords
	for l, at := range s.since {
		records.Lanes = append(records.Lanes, delivery.LaneRecord{Lane: l, Failing: true, FailingFor: time.Since(at)})
	}
	return records, nil
}

func (s *marks) MarkFailing(_ context.Context, l delivery.Lane, age time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.since[l]; !ok {
		s.since[l] = time.Now().Add(-age)
		s.set++
	}
	return nil
}

func (s *marks) ClearFailing(_ context.Context, l delivery.Lane) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.since, l)
	return nil
}

func (s *marks) CountAttempts(_ context.Context, _ delivery.Lane, _ time.Duration, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted++
	return min(s.attempts, limit), nil
}

func (s *marks) PauseRule(_ context.Context, l delivery.Lane, reason delivery.Reason) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return false, errAway
	}
	if _, ok := s.paused[l]; ok || s.gone[l] {
		return false, nil
	}
	s.paused[l] = reason
	s.pauses++
	return true, nil
}

// made returns how many pauses there were. The pausers go on meanwhile.
func (s *marks) made() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pauses
}

// resume does what an operator does.
func (s *marks) resume(l delivery.Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.paused, l)
	delete(s.since, l)
}

// reason returns why the lane is paused, "" where it is not.
func (s *marks) reason(l delivery.Lane) delivery.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused[l]
}

func (s *marks) marked(l delivery.Lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.since[l]
	return ok
}

// process is one replica: what its lanes saw, and its pauser.
type process struct {
	mu     sync.Mutex
	health map[delivery.Lane]delivery.LaneHealth
	resets int

	logs *logLines
	reg  *prometheus.Registry
	stop func()
}

func (p *process) Health() []delivery.LaneHealth {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []delivery.LaneHealth
	for l, h := range p.health {
		h.Lane = l
		all = append(all, h)
	}
	return all
}

func (p *process) ResetHealth(l delivery.Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resets++
	delete(p.health, l)
}

func (p *process) fails(l delivery.Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.health[l]
	if h.LastFailure = time.Now(); h.FailingSince.IsZero() {
		h.FailingSince = h.LastFailure
	}
	h.Gone = 0
	p.health[l] = h
}

func (p *process) answersGone(l delivery.Lane) {
	p.mu.Lock()
	h := p.health[l]
	p.mu.Unlock()
	n := h.Gone + 1
	p.fails(l)
	p.mu.Lock()
	defer p.mu.Unlock()
	h = p.health[l]
	h.Gone = n
	p.health[l] = h
}

func (p *process) takes(l delivery.Lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.health[l] = delivery.LaneHealth{LastTaken: time.Now()}
}

// start starts a replica. Its rules notice a pause after 5 s.
func start(t *testing.T, s *marks) *process {
	t.Helper()
	p := &process{health: make(map[delivery.Lane]delivery.LaneHealth), logs: &logLines{}, reg: prometheus.NewRegistry()}
	var mu sync.Mutex
	known := make(map[delivery.Lane]bool)
	pauser, err := queue.NewPauser(queue.PauserOptions{
		Store: s, Lanes: p, Logger: slog.New(slog.NewTextHandler(p.logs, nil)), Registerer: p.reg,
		Paused: func(l delivery.Lane) bool {
			mu.Lock()
			defer mu.Unlock()
			return known[l]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { pauser.Run(ctx) })
	running.Go(func() {
		for ctx.Err() == nil {
			mu.Lock()
			clear(known)
			s.mu.Lock()
			for l := range s.paused {
				known[l] = true
			}
			s.mu.Unlock()
			mu.Unlock()
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
		}
	})
	p.stop = func() {
		cancel()
		running.Wait()
	}
	return p
}

// withReplicas runs n of them.
func withReplicas(t *testing.T, n int, test func(t *testing.T, s *marks, p []*process)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &marks{
			since: make(map[delivery.Lane]time.Time), paused: make(map[delivery.Lane]delivery.Reason), gone: make(map[delivery.Lane]bool),
			attempts: 100,
		}
		var all []*process
		for range n {
			all = append(all, start(t, s))
		}
		test(t, s, all)
		for _, p := range all {
			p.stop()
		}
	})
}

// every calls f each period for the time d.
func every(period, d time.Duration, f func()) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		f()
		pass(period)
	}
}

const hour = time.Hour

func TestRuleIsPausedAfterADayOfFailure(t *testing.T) {
	t.Parallel()
	withReplicas(t, 2, func(t *testing.T, s *marks, p []*process) {
		p[0].takes(lane1)
		pass(time.Minute)
		fail := func() { p[0].fails(lane1); p[1].fails(lane1) }
		every(time.Minute, 9*time.Minute, fail)
		if s.marked(lane1) {
			t.Error("marked after 9 minutes")
		}
		every(time.Minute, 23*hour+45*time.Minute, fail)
		if !s.marked(lane1) || s.reason(lane1) != "" {
			t.Errorf("marked: %v, paused: %q, want the mark alone before a day is over", s.marked(lane1), s.reason(lane1))
		}
		every(time.Minute, 10*time.Minute, fail)
		if s.reason(lane1) != delivery.ReasonFailing {
			t.Fatal("not paused after a day of failure")
		}
		if s.reason(lane2) != "" {
			t.Error("another rule is paused")
		}
		every(time.Minute, 5*hour, fail) // what was under way
		text := p[0].logs.String() + p[1].logs.String()
		if s.made() != 1 || strings.Count(text, "level=ERROR") != 1 {
			t.Errorf("%d pauses, logged %s; want one error", s.made(), text)
		}
		for _, part := range []string{"rule_id=1", "reason=failing", "24 hours", "webhook-dispatcher rules set 1 --resume"} {
			if !strings.Contains(text, part) {
				t.Errorf("logged %s; want %q in it", text, part)
			}
		}
		total := 0.0
		for _, one := range p {
			total += counterOf(t, one.reg, "webhook_dispatcher_rules_paused_total", "failing")
		}
		if total != 1 {
			t.Errorf("counted %v, want 1", total)
		}

		// Resumed, and still failing: another day begins.
		s.resume(lane1)
		pass(time.Minute)
		if p[0].resets != 1 || p[1].resets != 1 {
			t.Errorf("health was reset %d and %d times, want once in each replica", p[0].resets, p[1].resets)
		}
		every(time.Minute, 23*hour+50*time.Minute, fail)
		if s.reason(lane1) != "" {
			t.Error("paused again within a day")
		}
		every(time.Minute, 30*time.Minute, fail)
		if s.reason(lane1) == "" || s.made() != 2 {
			t.Error("not paused again after another day of failure")
		}
	})
}

func counterOf(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s of %s", name, label)
	return 0
}

// One replica cannot reach the endpoint, the other can, however rarely.
func TestEndpointThatOneReplicaReachesIsNeverPaused(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{time.Minute, hour, 20 * hour} {
		t.Run(fmt.Sprint(gap), func(t *testing.T) {
			t.Parallel()
			withReplicas(t, 2, func(t *testing.T, s *marks, p []*process) {
				last := time.Time{}
				every(time.Minute, 10*24*hour, func() {
					p[0].fails(lane1)
					if time.Since(last) >= gap {
						last = time.Now()
						p[1].takes(lane1)
					}
				})
				if s.made() != 0 {
					t.Error("paused")
				}
				if gap > hour && s.set == 0 {
					t.Error("never marked: the test shows nothing")
				}
			})
		})
	}
}

// A mark that another replica cleared is not set back with what was before.
func TestClearedMarkBeginsAnew(t *testing.T) {
	t.Parallel()
	withReplicas(t, 2, func(t *testing.T, s *marks, p []*process) {
		every(time.Minute, 20*hour, func() { p[0].fails(lane1) })
		p[1].takes(lane1)
		pass(time.Minute)
		if s.marked(lane1) {
			t.Fatal("still marked after a delivery")
		}
		every(time.Minute, 9*time.Minute, func() { p[0].fails(lane1) })
		if s.marked(lane1) {
			t.Error("marked again at once")
		}
		every(time.Minute, 23*hour, func() { p[0].fails(lane1) })
		if !s.marked(lane1) || s.reason(lane1) != "" {
			t.Errorf("marked: %v, paused: %q; want the mark, and a day since the delivery", s.marked(lane1), s.reason(lane1))
		}
		every(time.Minute, 2*hour, func() { p[0].fails(lane1) })
		if s.reason(lane1) == "" {
			t.Error("not paused a day after the last delivery")
		}
	})
}

func TestEndpointThatFlapsIsNeverPaused(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		n := 0
		every(time.Minute, 5*24*hour, func() {
			if n++; n%600 == 0 { // every ten hours
				p[0].takes(lane1)
				return
			}
			p[0].fails(lane1)
		})
		if s.made() != 0 || s.set == 0 {
			t.Errorf("%d pauses, %d marks", s.made(), s.set)
		}
	})
}

func TestRestartsDoNotEndTheDay(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		for range 5 {
			every(time.Minute, 5*hour, func() { p[0].fails(lane1) })
			p[0].stop()
			p[0] = start(t, s)
		}
		if s.reason(lane1) == "" {
			t.Error("not paused after 25 hours of failure with restarts")
		}
	})
}

// A single failure after a start says nothing, whatever was marked long ago.
func TestPauseNeedsFailuresOfThisProcess(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		s.mu.Lock()
		s.since[lane1] = time.Now().Add(-48 * hour)
		s.mu.Unlock()
		pass(hour)
		p[0].fails(lane1)
		pass(9 * time.Minute)
		if s.reason(lane1) != "" {
			t.Error("paused within 10 minutes of the first failure")
		}
		p[0].takes(lane1)
		pass(hour)
		if s.marked(lane1) || s.reason(lane1) != "" {
			t.Error("marked or paused although it takes deliveries")
		}
	})
}

func TestLowTraffic(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		s.mu.Lock()
		s.attempts = 9
		s.mu.Unlock()
		every(5*hour, 48*hour, func() { p[0].fails(lane1) })
		if s.reason(lane1) != "" {
			t.Error("paused after fewer than 10 attempts")
		}
		s.mu.Lock()
		s.attempts = 10
		s.mu.Unlock()
		pass(hour) // no failure for hours, but no delivery either
		if s.reason(lane1) != delivery.ReasonFailing {
			t.Error("not paused although it took nothing for days")
		}
	})
}

func TestGoneIsPausedAtOnce(t *testing.T) {
	t.Parallel()
	withReplicas(t, 2, func(t *testing.T, s *marks, p []*process) {
		for _, l := range []delivery.Lane{lane1, {Kind: delivery.KindInbox, RuleID: 5}} {
			p[0].answersGone(l)
			p[0].answersGone(l)
		}
		pass(time.Minute)
		if s.made() != 0 {
			t.Error("paused after two answers 410")
		}
		s.mu.Lock()
		s.away = true
		s.mu.Unlock()
		for range 10 {
			p[0].answersGone(lane1)
			p[0].answersGone(delivery.Lane{Kind: delivery.KindInbox, RuleID: 5})
			p[1].answersGone(lane1)
		}
		pass(time.Minute)
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		pass(10 * time.Second)
		if s.made() != 1 || s.reason(lane1) != delivery.ReasonGone {
			t.Errorf("%d pauses, reason %q; want one, of a rule", s.made(), s.reason(lane1))
		}
		// Resumed at once, before anybody has seen it paused, or later: either way the old answers
		// no longer count.
		for _, wait := range []time.Duration{0, hour} {
			pass(wait)
			before := s.made()
			s.resume(lane1)
			pass(10 * time.Minute)
			if s.made() != before {
				t.Errorf("resumed after %s: paused again without a new answer", wait)
			}
			for range 3 {
				p[1].answersGone(lane1)
			}
			pass(10 * time.Second)
			if s.made() != before+1 {
				t.Errorf("resumed after %s: %d pauses more after three new answers, want one", wait, s.made()-before)
			}
		}
	})
}

// A rule that is resumed before this process has seen it paused can be paused again, for new
// answers only.
func TestResumedBeforeAnybodyNoticed(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		for want := 1; want <= 3; want++ {
			for range 3 {
				p[0].answersGone(lane1)
			}
			for range 1000 {
				if s.reason(lane1) != "" {
					break
				}
				pass(time.Millisecond * 10)
			}
			if s.made() != want {
				t.Fatalf("%d pauses after %d times three answers", s.made(), want)
			}
			s.resume(lane1)
			pass(10 * time.Minute)
			if s.made() != want {
				t.Fatalf("paused again without a new answer")
			}
		}
	})
}

func TestRuleThatIsGoneIsLeftAlone(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		s.mu.Lock()
		s.gone[lane1] = true
		s.mu.Unlock()
		every(time.Minute, 26*hour, func() { p[0].fails(lane1) })
		if strings.Contains(p[0].logs.String(), "ERROR") {
			t.Errorf("logged %s", p[0].logs)
		}
		if s.counted > 100 {
			t.Errorf("attempts counted %d times in two hours", s.counted)
		}
	})
}

func TestPauserOptions(t *testing.T) {
	t.Parallel()
	paused := func(delivery.Lane) bool { return false }
	for name, o := range map[string]queue.PauserOptions{
		"store": {Lanes: &process{}, Paused: paused}, "lanes": {Store: &marks{}, Paused: paused}, "paused": {Store: &marks{}, Lanes: &process{}},
	} {
		if _, err := queue.NewPauser(o); err == nil {
			t.Errorf("a pauser without %s", name)
		}
	}
}

// An outage of 15 minutes whose deliveries were given up after a short schedule, then a quiet day.
func TestQuietDayAfterAShortOutagePausesNothing(t *testing.T) {
	t.Parallel()
	withReplicas(t, 1, func(t *testing.T, s *marks, p []*process) {
		p[0].takes(lane1)
		pass(time.Minute)
		every(time.Minute, 15*time.Minute, func() { p[0].fails(lane1) })
		pass(25 * hour)
		if r := s.reason(lane1); r != "" {
			t.Errorf("paused (%s) 24 h 45 min after the last request", r)
		}
	})
}
