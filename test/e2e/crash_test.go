//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

const (
	crashPartitions = 4
	crashWindow     = 256
	// commitAge is how old a daemon's last commit may be: the commit interval, and time for the
	// commit on a busy machine.
	commitAge = 3 * time.Second
)

// crash is one kill in TestKilledAtRandomMoments and what was durable at that time.
type crash struct {
	at        time.Time
	committed map[int32]int64
	leased    int // rows leased by any replica
}

// TestKilledAtRandomMoments sends one of two replicas SIGKILL again and again, during bursts of
// events and the rebalances that follow. One of three rules fails every second request. At each
// kill no committed offset may be ahead of what is durable. At the end each rule has got each
// event, and no more repeats than the windows allow.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	kills, events := harness.Sized(12, 40), harness.Sized(30_000, 100_000)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := harness.NewSite(t)
	c := &crashes{Site: s, load: s.NewLoad(1, crashPartitions), endpoints: map[int64]*harness.Endpoint{}}
	k := harness.NewSink(t)
	for _, hook := range harness.Hooks {
		behave := harness.Takes
		if hook == "failing" {
			behave = harness.FailsEverySecond
		}
		e, rule := s.AddHook(k, hook, c.load.Constants[0], behave)
		c.endpoints[rule] = e
	}
	settings := []string{
		"WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s" + strings.Repeat(",1s", 24),
		fmt.Sprintf("WEBHOOK_DISPATCHER_MAX_IN_FLIGHT_PER_PARTITION=%d", crashWindow),
	}
	begun := time.Now()
	replicas := []*harness.Daemon{s.Serve(settings...), s.Serve(settings...)}
	for i := range kills {
		c.load.Send(events*(i+1)/kills-events*i/kills, 0)
		c.waitForMoment(random, i)
		victim := random.IntN(len(replicas))
		replicas[victim].Kill()
		c.note()
		if i%3 == 2 { // the other replica notices that it is alone
			<-time.After(time.Duration(random.IntN(int(12 * time.Second))))
		}
		replicas[victim] = s.Launch(settings...)
	}
	harness.Eventually(t, harness.Sized(3*time.Minute, 5*time.Minute), "every event at every rule", c.complete)
	s.Producer.WaitCommitted(30*time.Second, harness.Registrations)
	harness.Eventually(t, 2*time.Minute, "rows", s.AllDelivered)
	took := harness.Since(begun)
	states, err := s.States()
	if err != nil {
		t.Error(err)
	}
	r := c.repeats()
	harness.Figure(t,
		"%d events × %d rules, %d kills: all delivered in %s; %d repeats, %.1f %%: %d read again (a kill exposed %d of a partition "+
			"at most, of %d that may be), %d of the %d rows under a lease; rows %v", events, len(harness.Hooks), kills, took.Round(time.Second),
		r.windows+r.rows, 100*float64(r.windows+r.rows)/float64(events*len(harness.Hooks)), r.windows, r.exposed, r.all, r.rows, r.leased, states)
	for _, d := range replicas {
		d.Terminate()
	}
}

// crashes is the site of the test and what it records at each kill.
type crashes struct {
	*harness.Site
	load      *harness.Load
	endpoints map[int64]*harness.Endpoint // by rule
	kills     []crash
}

// waitForMoment returns at a random moment of three kinds in turn: in the middle of a burst,
// shortly after the last start and so during a rebalance, and when everything has been sent and
// committed.
func (c *crashes) waitForMoment(random *rand.Rand, i int) {
	c.T.Helper()
	open := func() (n int) {
		for _, e := range c.endpoints {
			n += len(c.load.Sent()) - e.Events()
		}
		return n
	}
	comeTo := func(left int) {
		harness.Eventually(c.T, time.Minute, "requests", func() error {
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

// note reads the committed offsets after a kill and checks that each rule has taken each event
// below them or has a row for it. It reads the offsets first: what is committed must already be
// durable.
func (c *crashes) note() {
	c.T.Helper()
	var kill crash
	harness.Eventually(c.T, 20*time.Second, "the group's positions", func() error {
		var err error
		kill.committed, err = c.Producer.Committed(harness.Registrations)
		return err
	})
	kill.at = time.Now()
	kill.leased = c.Rows("state = 1")
	rows, err := c.rowsByRule()
	if err != nil {
		c.T.Fatal(err)
	}
	ahead := 0
	for rule, e := range c.endpoints {
		settled := rows[rule]
		for event := range e.Taken() {
			settled[event] = true
		}
		for n, event := range c.load.Sent() {
			if event.Offset < kill.committed[event.Partition] && !settled[n] {
				ahead++
			}
		}
	}
	if ahead > 0 {
		c.T.Errorf("kill %d: positions %v are committed although %d deliveries below them were neither taken nor are rows",
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
	rows, err := c.DB.Query("SELECT rule_id, event_id FROM webhook_dispatcher_delivery")
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
		found[rule][harness.EventNumber(event)] = true
	}
	return found, rows.Err()
}

// complete returns an error unless each endpoint has taken each event.
func (c *crashes) complete() error {
	var errs []error
	for rule, e := range c.endpoints {
		if missing := len(c.load.Sent()) - len(e.Taken()); missing > 0 {
			errs = append(errs, fmt.Errorf("%d events are missing at rule %d", missing, rule))
		}
	}
	return errors.Join(errs...)
}

// repeated counts the deliveries that were taken more than once.
type repeated struct {
	windows      int // read again from Kafka
	rows         int // rows whose result was not written
	exposed, all int // the most by one kill in one partition, and the limit there
	leased       int // leased rows, over all kills
}

// repeats finds for each repeated delivery the kills that explain it.
//
// A kill exposes the events of a partition that have been sent but not committed: the next owner
// reads them again, and each rule gets them again. The watermark is at most one window behind what
// has been read, and the committed offset is behind the watermark by what was released since the
// last commit. So a kill exposes at most one window and what was sent since that commit, or what an
// earlier kill has exposed and nobody has committed since. Below the committed offset only rows can
// be sent again: leased ones whose result was not written.
func (c *crashes) repeats() repeated {
	c.T.Helper()
	rows, err := c.rowsByRule()
	if err != nil {
		c.T.Fatal(err)
	}
	var result repeated
	sent := c.load.Sent()
	allowed := make([]int, len(sent)) // kills that expose each event
	var before [crashPartitions]int
	for i, kill := range c.kills {
		recent, came := c.cameUntil(kill.at)
		result.leased += kill.leased
		for partition := range int32(crashPartitions) {
			exposed, since := 0, 0
			for n, event := range sent {
				if event.Partition != partition || event.Offset < kill.committed[partition] {
					continue
				}
				if came[n] {
					allowed[n]++
					exposed++
				}
			}
			for n := range recent {
				if sent[n].Partition == partition {
					since++
				}
			}
			bound := crashWindow + since
			if i > 0 {
				bound = max(bound, before[partition]-int(kill.committed[partition]-c.kills[i-1].committed[partition]))
			}
			before[partition] = bound
			if exposed > bound {
				c.T.Errorf("kill %d exposes %d events of partition %d, want %d at most: a window of %d and what was sent since the last commit",
					i+1, exposed, partition, bound, crashWindow)
			}
			if exposed > result.exposed {
				result.exposed, result.all = exposed, bound
			}
		}
	}
	for rule, e := range c.endpoints {
		unknown := 0
		for n, times := range e.Taken() {
			again := min(times-1, allowed[n])
			result.windows += again
			again = times - 1 - again
			if again > 0 && !rows[rule][n] {
				unknown++
			}
			result.rows += again
		}
		if unknown > 0 {
			c.T.Errorf("rule %d got %d events again that no kill allows for: they were below the committed positions and are no rows",
				rule, unknown)
		}
	}
	if result.rows > result.leased {
		c.T.Errorf("%d rows were sent again, although %d were under a lease", result.rows, result.leased)
	}
	return result
}

// cameUntil returns the events that any endpoint got before a time, and those it got shortly
// before.
func (c *crashes) cameUntil(end time.Time) (recent, came map[int]bool) {
	recent, came = map[int]bool{}, map[int]bool{}
	for _, e := range c.endpoints {
		for _, v := range e.Visited() {
			if v.At.After(end) {
				continue
			}
			came[v.Event] = true
			if v.At.After(end.Add(-commitAge)) {
				recent[v.Event] = true
			}
		}
	}
	return recent, came
}
