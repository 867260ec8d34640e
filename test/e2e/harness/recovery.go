//go:build e2e

package harness

import (
	"errors"
	"fmt"
	"time"
)

// Missing returns an error that counts the events that one of the hooks has not taken yet.
func (s *Site) Missing(events []Published) error {
	var errs []error
	for _, hook := range Hooks {
		taken, missing := s.Taken(hook), 0
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

// Repeats returns how many deliveries were taken in all, and how many of them more often than once.
func (s *Site) Repeats(events []Published) (total, repeats int) {
	for _, hook := range Hooks {
		taken := s.Taken(hook)
		for _, e := range events {
			total += taken[e.ID]
			repeats += taken[e.ID] - 1
		}
	}
	return total, repeats
}

// Settled returns an error when the group's position is ahead of what is safe: each record below it must have been taken by each
// hook or stand in a row. It may be asked at any time: what is safe stays so.
func (s *Site) Settled(base string, rules map[string]string, events []Published) error {
	committed, err := s.Producer.Committed(base) // first: the others only grow
	if err != nil {
		return nil // the broker is away; the next look will tell
	}
	rows, err := s.DB.Query("SELECT rule_id, event_id FROM webhook_dispatcher_delivery")
	if err != nil {
		return nil
	}
	defer func() { _ = rows.Close() }()
	kept := map[string]bool{}
	for rows.Next() {
		var rule, event string
		if err := rows.Scan(&rule, &event); err != nil {
			return err
		}
		kept[rule+" "+event] = true
	}
	if rows.Err() != nil {
		return nil
	}
	topic, ahead, example := s.Topic(base), 0, ""
	for hook, rule := range rules {
		taken := s.Taken(hook)
		for _, e := range events {
			if e.Topic == topic && e.Offset < committed[e.Partition] && taken[e.ID] == 0 && !kept[rule+" "+e.ID] {
				ahead++
				example = fmt.Sprintf("offset %d of partition %d, where %d is committed, at %s", e.Offset, e.Partition, committed[e.Partition], hook)
			}
		}
	}
	if ahead > 0 {
		return fmt.Errorf("positions are ahead of %d deliveries that are neither taken nor rows, such as %s", ahead, example)
	}
	return nil
}

// Recovers checks that the end of a fault, which is now, is the end of its effects: within 30 s the group's positions reach the ends
// that the logs have now and the daemons are ready, and within limit, which is longer where a killed daemon has left leases,
// everything published so far has been taken by every hook. It returns how long both took.
func (s *Site) Recovers(base string, events *Traffic, limit time.Duration, daemons ...*Daemon) [2]time.Duration {
	s.T.Helper()
	fault := time.Now()
	before := events.Acknowledged()
	ends, err := s.Producer.Ends(base)
	if err != nil {
		s.T.Fatal(err)
	}
	Eventually(s.T, Recovery, "positions after the fault", func() error {
		committed, err := s.Producer.Committed(base)
		if err != nil {
			return err
		}
		for partition, end := range ends {
			if committed[partition] < end {
				return fmt.Errorf("committed %v, want at least %v", committed, ends)
			}
		}
		return nil
	})
	for _, d := range daemons {
		d.WaitReady(time.Until(fault.Add(Recovery)))
	}
	positions := Since(fault)
	Eventually(s.T, time.Until(fault.Add(limit)), "what was published before the end of the fault", func() error { return s.Missing(before) })
	return [2]time.Duration{positions, Since(fault)}
}

// AllIsWell checks the end of a fault test: everything has been delivered, everything is committed, no row is left over.
func (s *Site) AllIsWell(base string, events []Published) {
	s.T.Helper()
	Eventually(s.T, 20*time.Second, "every event at every rule", func() error { return s.Missing(events) })
	s.Producer.WaitCommitted(20*time.Second, base)
	Eventually(s.T, Lease+Recovery, "rows", s.AllDelivered) // one may have been delivered by a request whose result had no row yet
	if n := s.MustNumber("SELECT COUNT(*) - COUNT(DISTINCT rule_id, event_id) FROM webhook_dispatcher_delivery"); n > 0 {
		s.T.Errorf("%d deliveries have more than one row", n)
	}
}

// Recovery is how long it may take after the end of a fault until deliveries go on.
const Recovery = 30 * time.Second

// Lease is how long a row stays with its replica, at the daemon's default timeout or below 22 s.
const Lease = time.Minute
