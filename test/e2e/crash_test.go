//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// hooks of a test in which one of several endpoints fails.
var hooks = []string{"first", "second", "failing"}

const (
	crashPartitions = 4
	crashWindow     = 256
	// commitAge is how old the last commit of a daemon may be: its interval, and time for the commit on a machine that is busy.
	commitAge = 3 * time.Second
)

// crash is one kill of TestKilledAtRandomMoments and what was durable then.
type crash struct {
	at        time.Time
	committed map[int32]int64
	leased    int // rows under a lease of any replica
}

// TestKilledAtRandomMoments kills one of two replicas with SIGKILL again and again, in the middle of bursts of events and of the
// rebalances that follow. One of three rules fails every second request. At each kill no position that is committed may be ahead
// of what is durable; at the end each event has arrived at each rule, and those that came more than once are no more than the windows
// allow for.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	kills, events := sized(12, 40), sized(30_000, 100_000)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t)
	c := &crashes{site: s, load: s.newLoad(1, crashPartitions), endpoints: map[int64]*endpoint{}}
	k := newSink(t)
	for _, hook := range hooks {
		behave := takes
		if hook == "failing" {
			behave = failsEverySecond
		}
		e, rule := s.hook(k, hook, c.load.constants[0], behave)
		c.endpoints[rule] = e
	}
	settings := []string{
		"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s" + strings.Repeat(",1s", 24), fmt.Sprintf("WEBHOOK_DISPATCHER_MAX_IN_FLIGHT_PER_PARTITION=%d", crashWindow),
	}
	begun := time.Now()
	replicas := []*daemon{s.serve(settings...), s.serve(settings...)}
	for i := range kills {
		c.load.send(events*(i+1)/kills-events*i/kills, 0)
		c.waitForMoment(random, i)
		victim := random.IntN(len(replicas))
		replicas[victim].kill()
		c.note()
		if i%3 == 2 { // the other replica finds out by itself that it is alone
			<-time.After(time.Duration(random.IntN(int(12 * time.Second))))
		}
		replicas[victim] = s.launch(settings...)
	}
	eventually(t, sized(3*time.Minute, 5*time.Minute), "every event at every rule", c.complete)
	eventually(t, 30*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	eventually(t, 2*time.Minute, "rows", s.allDelivered)
	took := since(begun)
	states, err := s.states()
	if err != nil {
		t.Error(err)
	}
	r := c.repeats()
	figure(t, "%d events × %d rules, %d kills: all delivered in %s; %d repeats, %.1f %%: %d read again (a kill exposed %d of a partition "+
		"at most, of %d that may be), %d of the %d rows under a lease; rows %v", events, len(hooks), kills, took.Round(time.Second),
		r.windows+r.rows, 100*float64(r.windows+r.rows)/float64(events*len(hooks)), r.windows, r.exposed, r.all, r.rows, r.leased, states)
	for _, d := range replicas {
		d.terminate()
	}
}

// crashes is the site of the test, with what it notes at each kill.
type crashes struct {
	*site
	load      *load
	endpoints map[int64]*endpoint // by rule
	kills     []crash
}

// waitForMoment returns at a random moment of one of three kinds in turn: in the middle of the work on a burst, shortly after the last
// start, which is in a rebalance, and when all has been sent for long enough to be committed.
func (c *crashes) waitForMoment(random *rand.Rand, i int) {
	c.t.Helper()
	open := func() (n int) {
		for _, e := range c.endpoints {
			n += len(c.load.sent()) - e.events()
		}
		return n
	}
	comeTo := func(left int) {
		eventually(c.t, time.Minute, "requests", func() error {
			if n := open(); n > left {
				return fmt.Errorf("%d have not come, want %d at most", n, left)
			}
			return nil
		})
	}
	switch i % 4 {
	case 0, 2:
		comeTo(int(float64(open()) * random.Float64()))
		<-time.After(time.Duration(random.IntN(int(50 * time.Millisecond))))
	case 1:
		<-time.After(time.Duration(random.IntN(int(4 * time.Second))))
	case 3:
		comeTo(0)
		<-time.After(commitAge + time.Second)
	}
}

// note reads, after a kill, what is committed and checks that no position is ahead: each event below it was taken or is a row, for each
// rule. The positions are read first: what is committed must have been durable before.
func (c *crashes) note() {
	c.t.Helper()
	var kill crash
	eventually(c.t, 20*time.Second, "the group's positions", func() error {
		var err error
		kill.committed, err = c.producer.committed(registrations)
		return err
	})
	kill.at = time.Now()
	kill.leased = c.rows("state = 1")
	rows, err := c.rowsByRule()
	if err != nil {
		c.t.Fatal(err)
	}
	ahead := 0
	for rule, e := range c.endpoints {
		settled := rows[rule]
		for event := range e.taken() {
			settled[event] = true
		}
		for n, event := range c.load.sent() {
			if event.offset < kill.committed[event.partition] && !settled[n] {
				ahead++
			}
		}
	}
	if ahead > 0 {
		c.t.Errorf("kill %d: positions %v are committed although %d deliveries below them were neither taken nor are rows",
			len(c.kills)+1, kill.committed, ahead)
	}
	c.kills = append(c.kills, kill)
}

// rowsByRule returns the events that have a row, by rule.
func (c *crashes) rowsByRule() (map[int64]map[int]bool, error) {
	found := map[int64]map[int]bool{}
	for rule := range c.endpoints {
		found[rule] = map[int]bool{}
	}
	rows, err := c.db.Query("SELECT rule_id, event_id FROM webhook_dispatcher_delivery")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var rule int64
		var event []byte
		if err := rows.Scan(&rule, &event); err != nil {
			return nil, err
		}
		found[rule][eventNumber(event)] = true
	}
	return found, rows.Err()
}

// complete returns nil when each endpoint has taken each event.
func (c *crashes) complete() error {
	var errs []error
	for rule, e := range c.endpoints {
		if missing := len(c.load.sent()) - len(e.taken()); missing > 0 {
			errs = append(errs, fmt.Errorf("%d events are missing at rule %d", missing, rule))
		}
	}
	return errors.Join(errs...)
}

// repeated tells of the deliveries that were taken more than once.
type repeated struct {
	windows      int // read again from Kafka
	rows         int // rows whose result was not written
	exposed, all int // by one kill in one partition at most, and what was allowed there
	leased       int // rows under a lease, over all kills
}

// repeats finds for each delivery that was taken again the kills that allow for it.
//
// A kill exposes the events of a partition that have been sent and lie at the committed position or above: its next owner reads them
// again, and each rule gets them once more. The watermark is at most one window behind what has been read, and the position behind
// the watermark by what was released since the last commit. So a kill exposes one window at most, and what was sent since
// that commit; or what an earlier kill has exposed and nobody has committed since. Below the position only a row can be sent
// again: one under a lease whose result was not written.
func (c *crashes) repeats() repeated {
	c.t.Helper()
	rows, err := c.rowsByRule()
	if err != nil {
		c.t.Fatal(err)
	}
	var result repeated
	sent := c.load.sent()
	allowed := make([]int, len(sent)) // kills that expose an event
	var before [crashPartitions]int
	for i, kill := range c.kills {
		recent, came := c.cameUntil(kill.at)
		result.leased += kill.leased
		for partition := range int32(crashPartitions) {
			exposed, since := 0, 0
			for n, event := range sent {
				if event.partition != partition || event.offset < kill.committed[partition] {
					continue
				}
				if came[n] {
					allowed[n]++
					exposed++
				}
			}
			for n := range recent {
				if sent[n].partition == partition {
					since++
				}
			}
			bound := crashWindow + since
			if i > 0 {
				bound = max(bound, before[partition]-int(kill.committed[partition]-c.kills[i-1].committed[partition]))
			}
			before[partition] = bound
			if exposed > bound {
				c.t.Errorf("kill %d exposes %d events of partition %d, want %d at most: a window of %d and what was sent since the last commit",
					i+1, exposed, partition, bound, crashWindow)
			}
			if exposed > result.exposed {
				result.exposed, result.all = exposed, bound
			}
		}
	}
	for rule, e := range c.endpoints {
		unknown := 0
		for n, times := range e.taken() {
			again := min(times-1, allowed[n])
			result.windows += again
			again = times - 1 - again
			if again > 0 && !rows[rule][n] {
				unknown++
			}
			result.rows += again
		}
		if unknown > 0 {
			c.t.Errorf("rule %d got %d events again that no kill allows for: they were below the committed positions and are no rows",
				rule, unknown)
		}
	}
	if result.rows > result.leased {
		c.t.Errorf("%d rows were sent again, although %d were under a lease", result.rows, result.leased)
	}
	return result
}

// cameUntil returns the events that came to any endpoint before a time, and those that came shortly before.
func (c *crashes) cameUntil(end time.Time) (recent, came map[int]bool) {
	recent, came = map[int]bool{}, map[int]bool{}
	for _, e := range c.endpoints {
		for _, v := range e.visited() {
			if v.at.After(end) {
				continue
			}
			came[v.event] = true
			if v.at.After(end.Add(-commitAge)) {
				recent[v.event] = true
			}
		}
	}
	return recent, came
}

// missing returns an error that counts the events that one of the hooks has not taken yet.
func (s *site) missing(events []published) error {
	var errs []error
	for _, hook := range hooks {
		taken, missing := s.taken(hook), 0
		for _, e := range events {
			if taken[e.ID] == 0 {
				missing++
			}
		}
		if missing > 0 {
			errs = append(errs, fmt.Errorf("%d events are missing at %s", missing, hook))
		}
	}
	return errors.Join(errs...)
}

// repeats returns how many deliveries were taken in all, and how many of them more often than once.
func (s *site) repeats(events []published) (total, repeats int) {
	for _, hook := range hooks {
		taken := s.taken(hook)
		for _, e := range events {
			total += taken[e.ID]
			repeats += taken[e.ID] - 1
		}
	}
	return total, repeats
}

// allDelivered returns nil when every row is delivered.
func (s *site) allDelivered() error {
	states, err := s.states()
	if err != nil {
		return err
	}
	if delivered := states["delivered"]; len(states) > 1 || len(states) == 1 && delivered == 0 {
		return fmt.Errorf("rows: %v", states)
	}
	return nil
}
