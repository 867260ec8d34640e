//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// recovery is how long it may take after the end of a fault until deliveries go on.
const recovery = 30 * time.Second

// TestServersThatRestart takes away and gives back the broker, then the database, each once in good order and once by SIGKILL, while
// a stream of events goes on. One rule fails every now and then, so that rows are written and read all the time.
func TestServersThatRestart(t *testing.T) {
	t.Parallel()
	kafka, mariadb := ownServer(t, "kafka"), ownServer(t, "mariadb")
	s := newSite(t, kafka, mariadb)
	s.lean = true
	s.on("failing", func(n int, r *received) reply {
		if n == 1 && r.At.UnixNano()%4 == 0 {
			return reply{status: 500}
		}
		return reply{status: 200}
	})
	for _, hook := range hooks {
		s.rule(hook)
	}
	s.producer.create(registrations, 3)
	s.watchOffsets(registrations)
	d := s.serve("WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s,1s,1s,1s,1s")
	stream := s.publish("--type", "student.registration.completed", "--count", "100000", "--rate", "150")
	eventually(t, 30*time.Second, "the first events", func() error { return atLeast(len(s.taken("first")), 100) })

	var took []time.Duration
	for _, server := range []*server{kafka, mariadb} {
		for _, kill := range []bool{false, true} {
			without := len(s.taken("first"))
			server.down(t, kill)
			if server == mariadb {
				// Away for a while, with events coming: rows cannot be written, and nothing that needs one is released.
				d.waitTrouble("database", "", 10*time.Second)
				// What needs no row goes on, for a window's worth behind the first event that needs one.
				eventually(t, 40*time.Second, "events without a database", func() error { return atLeast(len(s.taken("first")), without+300) })
			}
			if err := server.up(); err != nil {
				t.Fatal(err)
			}
			fault := time.Now()
			d.waitReady(recovery)
			before := map[string]int{}
			for _, hook := range hooks {
				before[hook] = len(s.taken(hook))
			}
			for _, hook := range hooks {
				eventually(t, time.Until(fault.Add(recovery)), hook+" gets events again", func() error {
					return atLeast(len(s.taken(hook)), before[hook]+20)
				})
			}
			took = append(took, time.Since(fault).Round(10*time.Millisecond))
		}
	}
	events := stream.stop()
	eventually(t, 90*time.Second, "every event at every rule", func() error { return s.missing(events) })
	eventually(t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	eventually(t, 90*time.Second, "rows", s.allDelivered)
	total, repeats := s.repeats(events)
	states, err := s.states()
	figure(t, "%d events × %d rules; going on after restarts of broker and database: %v; %d repeats, %.1f %%; rows %v %v; stopped in %s",
		len(events), len(hooks), took, repeats, 100*float64(repeats)/float64(total), states, err, d.terminate())
}
