//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestConnectionsCutInStatements cuts the connection to the database in statements that change
// rows: before the server gets the statement or the COMMIT, while it runs, and after it has run,
// with the answer lost. The daemon cannot know which. Nothing is lost, no delivery gets a second
// row, and only deliveries of the cut statements are repeated.
func TestConnectionsCutInStatements(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	rules := s.ThreeRules()
	s.Producer.CreateTopic(harness.Registrations, 3)
	s.WatchOffsets(harness.Registrations)
	s.On("second", func(n int, r *harness.Received) harness.Reply { // sometimes slower than the hand-off time
		if harness.EveryFourthFails(n, r).Status != 200 {
			return harness.Reply{Status: 200, After: harness.Passed(700 * time.Millisecond)}
		}
		return harness.Reply{Status: 200}
	})
	db := harness.NewProxy(t, s.MariaDB.Address())
	d := s.Serve(s.Through(db), "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s")
	idle := d.Goroutines()
	events := s.Producer.StartTraffic(harness.Registrations, 3, 100, 1)
	harness.Eventually(t, 20*time.Second, "rows", func() error {
		return harness.AtLeast(s.Rows("state = 2"), 50)
	})

	saw := &cuts{every: 5, done: map[string]int{}}
	db.Cutting(saw.decide)
	harness.Eventually(t, harness.Sized(time.Minute, 5*time.Minute), "cuts of every kind", func() error {
		return saw.enough(harness.Sized(1, 20))
	})
	db.Restore(t)
	db.Reset()
	if err := s.Settled(harness.Registrations, rules, events.Acknowledged()); err != nil {
		t.Error(err)
	}
	took := s.Recovers(harness.Registrations, events, harness.Recovery, d)
	all := events.Stop()
	s.AllIsWell(harness.Registrations, all)
	total, repeats := s.Repeats(all)
	if most := saw.rows; repeats > most {
		t.Errorf("%d of %d deliveries were repeated, want %d at most", repeats, total, most)
	}
	doubled := s.MustNumber(`SELECT COUNT(*) - COUNT(DISTINCT webhook_id, number, at) FROM webhook_dispatcher_attempt`)
	harness.Figure(t,
		"%d events × %d rules; cut: %v; positions, deliveries caught up after %s; %d repeats, %d attempts logged twice; "+
			"goroutines %d idle, %d at the end; stopped in %s",
		len(all), len(harness.Hooks), saw.done, took, repeats, doubled, idle, d.WaitIdle(idle), d.Terminate())
}

// cuts decides where connections are cut, and counts the cuts by kind and place.
type cuts struct {
	every int

	mu   sync.Mutex // guards what follows
	seen map[string]int
	done map[string]int
	rows int // in the cut statements, or a few more
}

var places = map[harness.Cut]string{harness.CutBefore: "before", harness.CutDuring: "during", harness.CutAfter: "after"}

// decide cuts some INSERTs and some COMMITs of claims and results, at each place in turn.
func (c *cuts) decide(l *harness.Link, query string) harness.Cut {
	kind, rows := "", 0
	switch {
	case strings.HasPrefix(query, "INSERT INTO webhook_dispatcher_delivery"):
		kind, rows = "insert", strings.Count(query, harness.Registration)
	case query == "COMMIT":
		for _, statement := range l.Queries {
			if strings.HasPrefix(statement, "UPDATE webhook_dispatcher_delivery") {
				kind, rows = "result", rows+1+strings.Count(statement, ",")
				if strings.Contains(statement, "SET state = 1") {
					kind = "claim"
				}
			}
		}
	}
	if kind == "" {
		return harness.CutNowhere
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[kind]++
	if c.seen[kind]%c.every != 0 {
		return harness.CutNowhere
	}
	place := harness.Cut(c.seen[kind]/c.every%3) + harness.CutBefore
	c.done[kind+" "+places[place]]++
	c.rows += rows
	return place
}

// enough returns an error unless each kind was cut n times at each place.
func (c *cuts) enough(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range []string{"insert", "claim", "result"} {
		for _, place := range places {
			if c.done[kind+" "+place] < n {
				return fmt.Errorf("%v, want %d of each", c.done, n)
			}
		}
	}
	return nil
}
