package queue_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/queue"
)

// table stands for the delivery table as the claimer sees it: rows due per lane, by fake time.
type table struct {
	mu     sync.Mutex
	due    map[delivery.Lane][]time.Time
	rules  map[delivery.Lane]bool
	claims int // of the rows that it hands out
	polls  int
	looks  int
	err    error
	tokens map[delivery.Token]bool

	lose      int                    // claims whose answer is to be lost
	leaked    map[delivery.Token]int // rows of these
	givenBack []delivery.Token       // asked for
}

func (s *table) DueLanes(context.Context) ([]delivery.LaneDue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	if s.err != nil {
		return nil, s.err
	}
	var lanes []delivery.LaneDue
	for l, rows := range s.due {
		if len(rows) > 0 {
			lanes = append(lanes, delivery.LaneDue{Lane: l, Wait: time.Until(rows[0])})
		}
	}
	return lanes, nil
}

func (s *table) Claim(_ context.Context, l delivery.Lane, room int, _ time.Duration, token delivery.Token) ([]delivery.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens[token] {
		panic("a token was used twice")
	}
	s.tokens[token] = true
	var rows []delivery.Row
	for len(s.due[l]) > 0 && len(rows) < room && !s.due[l][0].After(time.Now()) {
		s.due[l] = s.due[l][1:]
		rows = append(rows, delivery.Row{Delivery: delivery.Delivery{Kind: l.Kind, RuleID: l.RuleID}, Token: token, Claims: s.claims})
	}
	if s.lose > 0 {
		s.lose--
		s.leaked = map[delivery.Token]int{token: len(rows)}
		return nil, errors.New("connection cut")
	}
	return rows, nil
}

func (s *table) GiveBack(_ context.Context, l delivery.Lane, _ time.Duration, token delivery.Token) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.givenBack = append(s.givenBack, token)
	n := s.leaked[token]
	delete(s.leaked, token)
	for range n {
		s.due[l] = append(s.due[l], time.Now())
	}
	return n, nil
}

func (s *table) RuleExists(_ context.Context, l delivery.Lane) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	return s.rules[l], nil
}

func (s *table) KillLane(_ context.Context, l delivery.Lane, reason delivery.Reason, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reason != delivery.ReasonRuleDeleted {
		panic("reason " + reason)
	}
	n := min(limit, len(s.due[l]))
	s.due[l] = s.due[l][n:]
	return n, nil
}

// lanes stands for the dispatcher.
type lanes struct {
	mu    sync.Mutex
	room  map[delivery.Lane]int
	got   map[delivery.Lane]int
	until time.Time
}

func (l *lanes) Room(key delivery.Lane) (int, time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	room, known := l.room[key]
	return room, time.Minute, known
}

func (l *lanes) Resend(rows []delivery.Row, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got[rows[0].Lane()] += len(rows)
	l.room[rows[0].Lane()] -= len(rows)
	l.until = until
}

func (l *lanes) received(key delivery.Lane) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got[key]
}

var lane1, lane2 = delivery.Lane{Kind: delivery.KindWebhook, RuleID: 1}, delivery.Lane{Kind: delivery.KindWebhook, RuleID: 2}

// consumers are the lanes as the only consumer.
func consumers(l *lanes) map[delivery.Kind]queue.Consumer {
	return map[delivery.Kind]queue.Consumer{delivery.KindWebhook: l}
}

// settled returns the results that were to be written so far.
type settled func() []delivery.Update

func withClaimer(t *testing.T, test func(t *testing.T, s *table, l *lanes, wakeup *queue.Wakeup, settled settled)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &table{due: map[delivery.Lane][]time.Time{}, rules: map[delivery.Lane]bool{}, tokens: map[delivery.Token]bool{}, claims: 1}
		l := &lanes{room: map[delivery.Lane]int{}, got: map[delivery.Lane]int{}}
		var mu sync.Mutex
		var updates []delivery.Update
		wakeup := queue.NewWakeup()
		c, err := queue.NewClaimer(queue.ClaimerOptions{Store: s, Consumers: consumers(l), Settle: func(u delivery.Update) {
			mu.Lock()
			defer mu.Unlock()
			updates = append(updates, u)
		}, Wakeup: wakeup})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		test(t, s, l, wakeup, func() []delivery.Update {
			mu.Lock()
			defer mu.Unlock()
			return append([]delivery.Update(nil), updates...)
		})
		cancel()
		running.Wait()
	})
}

func (s *table) add(l delivery.Lane, n int, in time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.due[l] = append(s.due[l], time.Now().Add(in))
	}
}

func TestClaimsWhatIsDueForLanesWithRoom(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, wakeup *queue.Wakeup, _ settled) {
		l.mu.Lock()
		l.room[lane1], l.room[lane2] = 3, 10
		l.mu.Unlock()
		s.add(lane1, 10, 0)
		s.add(lane2, 4, 700*time.Millisecond)
		wakeup.Wake()
		pass(300 * time.Millisecond)
		if got := l.received(lane1); got != 3 {
			t.Errorf("lane 1 got %d rows, want as many as it had room for", got)
		}
		if got := l.received(lane2); got != 0 {
			t.Errorf("lane 2 got %d rows before they were due", got)
		}
		pass(500 * time.Millisecond)
		if got := l.received(lane2); got != 4 {
			t.Errorf("lane 2 got %d rows, want 4 soon after they were due", got)
		}
		l.mu.Lock()
		l.room[lane1] = 100
		l.mu.Unlock()
		wakeup.Wake()
		pass(50 * time.Millisecond)
		if got := l.received(lane1); got != 10 {
			t.Errorf("lane 1 got %d rows after it had room again, want 10", got)
		}
	})
}

func TestIdleTableIsPolledOnceASecond(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, _ *lanes, _ *queue.Wakeup, _ settled) {
		pass(100 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.polls < 80 || s.polls > 130 {
			t.Errorf("%d polls in 100 s, want about one a second", s.polls)
		}
	})
}

func TestBusyLaneIsNotPolledInATightLoop(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, _ *queue.Wakeup, _ settled) {
		l.mu.Lock()
		l.room[lane1] = 1 << 30
		l.mu.Unlock()
		s.add(lane1, 100_000, 0)
		pass(2 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.polls > 110 {
			t.Errorf("%d polls in 2 s", s.polls)
		}
	})
}

func TestRowsOfADeletedRuleDie(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, _ *queue.Wakeup, _ settled) {
		s.mu.Lock()
		s.rules[lane2] = true // disabled, or not yet in the snapshot
		s.mu.Unlock()
		s.add(lane1, 1200, 0)
		s.add(lane2, 5, 0)
		pass(10 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.due[lane1]) != 0 {
			t.Errorf("%d rows of a rule that does not exist still wait", len(s.due[lane1]))
		}
		if len(s.due[lane2]) != 5 {
			t.Errorf("%d rows of a rule that exists wait, want all 5", len(s.due[lane2]))
		}
		if s.looks > 4 { // one for each batch of lane 1
			t.Errorf("%d look-ups in 10 s", s.looks)
		}
	})
}

func TestManyRowsOfADeletedRuleHoldUpNoOtherLane(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, _ *queue.Wakeup, _ settled) {
		l.mu.Lock()
		l.room[lane2] = 10
		l.mu.Unlock()
		s.add(lane1, 100_000, 0)
		s.add(lane2, 1, 3*time.Second)
		pass(5 * time.Second)
		if got := l.received(lane2); got != 1 {
			t.Errorf("lane 2 got %d rows while those of lane 1 were made dead", got)
		}
		pass(5 * time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if left := len(s.due[lane1]); left != 0 {
			t.Errorf("%d rows of a rule that does not exist still wait", left)
		}
	})
}

func TestCrashLoopEnds(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, _ *queue.Wakeup, updates settled) {
		l.mu.Lock()
		l.room[lane1] = 10
		l.mu.Unlock()
		s.mu.Lock()
		s.claims = 6
		s.mu.Unlock()
		s.add(lane1, 1, 0)
		pass(5 * time.Second)
		ups := updates()
		if len(ups) != 1 || ups[0].State != delivery.Dead || ups[0].Reason != delivery.ReasonCrashLoop || l.received(lane1) != 0 {
			t.Errorf("updates %+v, sent %d; want the row dead and not sent", ups, l.received(lane1))
		}
	})
}

func TestClaimerOutlivesADatabaseThatIsAway(t *testing.T) {
	t.Parallel()
	withClaimer(t, func(t *testing.T, s *table, l *lanes, _ *queue.Wakeup, _ settled) {
		l.mu.Lock()
		l.room[lane1] = 10
		l.mu.Unlock()
		s.mu.Lock()
		s.err = errAway
		s.mu.Unlock()
		s.add(lane1, 1, 0)
		pass(time.Hour)
		s.mu.Lock()
		if s.polls > 1000 {
			t.Errorf("%d polls in an hour against a database that is away", s.polls)
		}
		s.err = nil
		s.mu.Unlock()
		pass(10 * time.Second)
		if got := l.received(lane1); got != 1 {
			t.Errorf("got %d rows after the database came back, want 1", got)
		}
	})
}

// slowTable takes a second for a claim, and leaves the rows leased when it is cut short.
type slowTable struct{ *table }

func (s slowTable) Claim(
	ctx context.Context, l delivery.Lane, room int, lease time.Duration, token delivery.Token,
) ([]delivery.Row, error) {
	rows, err := s.table.Claim(ctx, l, room, lease, token)
	select {
	case <-time.After(time.Second):
		return rows, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestClaimUnderWayIsFinished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := slowTable{&table{
			due: map[delivery.Lane][]time.Time{}, rules: map[delivery.Lane]bool{}, tokens: map[delivery.Token]bool{}, claims: 1,
		}}
		l := &lanes{room: map[delivery.Lane]int{lane1: 10}, got: map[delivery.Lane]int{}}
		c, err := queue.NewClaimer(queue.ClaimerOptions{Store: s, Consumers: consumers(l), Settle: func(delivery.Update) {}})
		if err != nil {
			t.Fatal(err)
		}
		s.add(lane1, 3, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		c.Run(ctx)
		if got := l.received(lane1); got != 3 {
			t.Errorf("%d rows reached the lane, want the 3 whose claim was under way when the claimer was to end", got)
		}
	})
}

// pruning counts what is left to prune.
type pruning struct {
	mu   sync.Mutex
	left map[string]int
	ages map[string]time.Duration
}

func (p *pruning) take(what string, age time.Duration, limit int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ages[what] = age
	n := min(limit, p.left[what])
	p.left[what] -= n
	return n, nil
}

func (p *pruning) PruneEnded(_ context.Context, s delivery.State, age time.Duration, limit int) (int, error) {
	return p.take(s.String(), age, limit)
}

func (p *pruning) PruneAttempts(_ context.Context, age time.Duration, limit int) (int, error) {
	return p.take("attempts", age, limit)
}

func (p *pruning) PruneUndecodable(_ context.Context, age time.Duration, limit int) (int, error) {
	return p.take("undecodable", age, limit)
}

func (p *pruning) Expire(_ context.Context, age time.Duration, limit int) (int, error) {
	return p.take("expire", age, limit)
}

func TestPruner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &pruning{left: map[string]int{"delivered": 1700, "attempts": 20, "dead": 5}, ages: map[string]time.Duration{}}
		p, err := queue.NewPruner(queue.PrunerOptions{
			Store: s, Keep: queue.Retention{Delivered: 24 * time.Hour, Attempts: time.Hour, Pending: 14 * 24 * time.Hour},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		pass(2 * time.Minute)
		cancel()
		running.Wait()
		if s.left["delivered"] != 0 || s.left["attempts"] != 0 {
			t.Errorf("left: %v", s.left)
		}
		if s.left["dead"] != 5 {
			t.Error("dead rows were pruned although they are kept for ever")
		}
		if s.ages["delivered"] != 24*time.Hour || s.ages["expire"] != 14*24*time.Hour {
			t.Errorf("ages: %v", s.ages)
		}
	})
	if _, err := queue.NewPruner(queue.PrunerOptions{Store: &pruning{}, Keep: queue.Retention{Delivered: time.Hour}}); err == nil {
		t.Error("delivered rows may be pruned after an hour, with the keys by which repeats are recognised")
	}
}

// brokenLane fails to claim for one lane, slowly.
type brokenLane struct{ *table }

func (s brokenLane) Claim(
	ctx context.Context, l delivery.Lane, room int, lease time.Duration, token delivery.Token,
) ([]delivery.Row, error) {
	if l == lane2 {
		<-time.After(4 * time.Second)
		return nil, errAway
	}
	return s.table.Claim(ctx, l, room, lease, token)
}

func TestLaneThatFailsHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := brokenLane{&table{
			due: map[delivery.Lane][]time.Time{}, rules: map[delivery.Lane]bool{}, tokens: map[delivery.Token]bool{}, claims: 1,
		}}
		l := &lanes{room: map[delivery.Lane]int{lane1: 1 << 20, lane2: 10}, got: map[delivery.Lane]int{}}
		c, err := queue.NewClaimer(queue.ClaimerOptions{Store: s, Consumers: consumers(l), Settle: func(delivery.Update) {}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		s.add(lane2, 5, 0)
		for range 100 { // a row a second, so that polls of the healthy lane count
			s.add(lane1, 1, 0)
			pass(time.Second)
		}
		cancel()
		running.Wait()
		if got := l.received(lane1); got < 90 {
			t.Errorf("the healthy lane got %d of 100 rows in time", got)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.polls < 40 {
			t.Errorf("%d polls in 100 s beside a lane that fails", s.polls)
		}
	})
}

// Each kind of rows has its consumer, and rows of a kind that has none are left alone: another
// release may know them.
func TestRowsGoToTheConsumerOfTheirKind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &table{due: map[delivery.Lane][]time.Time{}, rules: map[delivery.Lane]bool{}, tokens: map[delivery.Token]bool{}, claims: 1}
		event, inbox := delivery.Lane{Kind: delivery.KindEvent, RuleID: 1}, delivery.Lane{Kind: delivery.KindInbox, RuleID: 1}
		room := map[delivery.Lane]int{lane1: 10, event: 10, inbox: 10}
		hooks := &lanes{room: room, got: map[delivery.Lane]int{}}
		events := &lanes{room: room, got: map[delivery.Lane]int{}}
		c, err := queue.NewClaimer(queue.ClaimerOptions{
			Store:     s,
			Consumers: map[delivery.Kind]queue.Consumer{delivery.KindWebhook: hooks, delivery.KindEvent: events},
			Settle:    func(delivery.Update) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.add(lane1, 1, 0)
		s.add(event, 2, 0)
		s.add(inbox, 3, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c.Run(ctx)
		if hooks.got[lane1] != 1 || events.got[event] != 2 || len(hooks.got)+len(events.got) != 2 || len(s.due[inbox]) != 3 || s.looks != 0 {
			t.Errorf("deliveries: %v, events: %v, left: %v", hooks.got, events.got, s.due)
		}
	})
}
