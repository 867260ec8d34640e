//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestConnectionsCutInStatements breaks off the connection to the database in what changes rows: before the server has the
// statement or the COMMIT, while it carries it out, and after it has, with the answer lost. The daemon cannot tell which it was.
// Nothing is lost, no delivery gets a second row, and no more is sent again than what the cut statements held.
func TestConnectionsCutInStatements(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rules := s.threeRules()
	s.producer.create(registrations, 3)
	s.watchOffsets(registrations)
	s.on("second", func(n int, r *received) reply { // slower than the hand-off time, now and then
		if everyFourthFails(n, r).status != 200 {
			return reply{status: 200, after: passed(700 * time.Millisecond)}
		}
		return reply{status: 200}
	})
	db := newProxy(t, s.mariadb.address())
	d := s.serve(s.through(db), "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s")
	idle := d.goroutines()
	events := s.producer.traffic(registrations, 3, 100, 1)
	eventually(t, 20*time.Second, "rows", func() error { return atLeast(s.rows("state = 2"), 50) })

	saw := &cuts{every: 5, done: map[string]int{}}
	db.cutting(saw.decide)
	eventually(t, sized(time.Minute, 5*time.Minute), "cuts of every kind", func() error {
		return saw.enough(sized(1, 20))
	})
	db.restore(t)
	db.reset()
	if err := s.settled(registrations, rules, events.acknowledged()); err != nil {
		t.Error(err)
	}
	took := s.recovers(registrations, events, recovery, d)
	all := events.stop()
	s.allIsWell(registrations, all)
	total, repeats := s.repeats(all)
	if most := saw.rows; repeats > most {
		t.Errorf("%d of %d deliveries were repeated, want %d at most", repeats, total, most)
	}
	doubled := s.mustNumber(`SELECT COUNT(*) - COUNT(DISTINCT webhook_id, number, at) FROM webhook_dispatcher_attempt`)
	figure(t, "%d events × %d rules; cut: %v; positions, deliveries caught up after %s; %d repeats, %d attempts logged twice; "+
		"goroutines %d idle, %d at the end; stopped in %s",
		len(all), len(hooks), saw.done, took, repeats, doubled, idle, d.calmsDown(idle), d.terminate())
}

// cuts decides where connections are cut, and counts by kind and place.
type cuts struct {
	every int

	mu   sync.Mutex // guards what follows
	seen map[string]int
	done map[string]int
	rows int // that the cut statements held, or a few more
}

var places = map[cut]string{cutBefore: "before", cutDuring: "during", cutAfter: "after"}

// decide cuts every so many INSERTs and COMMITs of claims and results, at each place in turn.
func (c *cuts) decide(l *link, query string) cut {
	kind, rows := "", 0
	switch {
	case strings.HasPrefix(query, "INSERT INTO webhook_dispatcher_delivery"):
		kind, rows = "insert", strings.Count(query, registration)
	case query == "COMMIT":
		for _, statement := range l.queries {
			if strings.HasPrefix(statement, "UPDATE webhook_dispatcher_delivery") {
				kind, rows = "result", rows+1+strings.Count(statement, ",")
				if strings.Contains(statement, "SET state = 1") {
					kind = "claim"
				}
			}
		}
	}
	if kind == "" {
		return cutNowhere
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[kind]++
	if c.seen[kind]%c.every != 0 {
		return cutNowhere
	}
	place := cut(c.seen[kind]/c.every%3) + cutBefore
	c.done[kind+" "+places[place]]++
	c.rows += rows
	return place
}

// enough tells whether each kind was cut n times at each place.
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
