//go:build e2e

package harness

import (
	"errors"
	"fmt"
	"time"
)

// Missing returns an error that counts the events that each of the Hooks has not taken yet.
func (s *Site) Missing(events []Published) error {
	var errs []error
	for _, hook := range Hooks {
		taken, missing, first := s.Taken(hook), 0, ""
		for _, e := range events {
			if taken[e.ID] == 0 {
				if missing++; missing == 1 {
					first = e.ID
				}
			}
		}
		if missing > 0 {
			errs = append(errs, fmt.Errorf("%d events are missing at %s, first %s, whose rows are: %s", missing, hook, first, s.rowsOf(first)))
		}
	}
	return errors.Join(errs...)
}

// Repeats returns how many deliveries of these events the Hooks have taken, and how many of those
// were repeats.
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

// Settled returns an error if a committed offset is ahead of what is durable: every hook must have
// taken each record below it, or there must be a row. It can be called at any time, because what is
// durable stays durable.
func (s *Site) Settled(base string, rules map[string]string, events []Published) error {
	committed, err := s.Producer.Committed(base) // first, because the others only grow
	if err != nil {
		return nil // the broker is away; the next call will tell
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

// Recovers is called when a fault ends. Within 30 s the committed offsets must reach the current
// end offsets and the daemons must be ready; within limit, which is longer if a killed daemon has
// left leases, every hook must have taken everything that was published before. It returns how long
// both took.
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
	Eventually(s.T, time.Until(fault.Add(limit)), "what was published before the end of the fault", func() error {
		return s.Missing(before)
	})
	return [2]time.Duration{positions, Since(fault)}
}

// AllIsWell checks the end of a fault test: everything is delivered and committed, and no row is
// left.
func (s *Site) AllIsWell(base string, events []Published) {
	s.T.Helper()
	Eventually(s.T, 20*time.Second, "every event at every rule", func() error { return s.Missing(events) })
	s.Producer.WaitCommitted(20*time.Second, base)
	Eventually(s.T, Lease+Recovery, "rows", s.AllDelivered) // a request may end before its row exists
	if n := s.MustNumber("SELECT COUNT(*) - COUNT(DISTINCT rule_id, event_id) FROM webhook_dispatcher_delivery"); n > 0 {
		s.T.Errorf("%d deliveries have more than one row", n)
	}
}

// Recovery is how long deliveries may take to resume after a fault.
const Recovery = 30 * time.Second

// Lease is how long a row stays with its replica, for request timeouts below 22 s.
const Lease = time.Minute

// rowsOf returns rule, state, claims and attempts of an event's rows, and how long until they are
// due or their leases end.
func (s *Site) rowsOf(eventID string) (rows string) {
	err := s.DB.QueryRow(`SELECT COALESCE(GROUP_CONCAT(CONCAT_WS(' ', rule_id, state, claims, attempts, reason,
  TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), due_at)) SEPARATOR '; '), 'none') FROM webhook_dispatcher_delivery WHERE event_id = ?`,
		eventID).Scan(&rows)
	if err != nil {
		return err.Error()
	}
	return rows
}
