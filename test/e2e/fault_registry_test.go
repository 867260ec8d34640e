//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
)

// TestRegistryAway takes the schema registry away in each way that there is, at the daemon's start and later, when a record needs a
// schema that nobody has asked for yet. Its partition waits, /readyz names the registry, nothing is given up, and what needs no new
// schema goes on.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*proxy){
		"refusing":  (*proxy).refuse,
		"silent":    (*proxy).silence,
		"no server": func(p *proxy) { p.answer("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") },
		// A registry behind a proxy that has lost its route; only the registry's own code 40403 means that there is no such schema.
		"not found": func(p *proxy) { p.answer("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.rule("hook")
			s.producer.create(registrations, 2)
			s.watchOffsets(registrations)
			host := s.registryAddress()
			registry := newProxy(t, host)
			away(registry)
			d := s.launch("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + strings.Replace(s.registry, host, registry.address, 1))
			ids := s.producer.publish(registrations, 2, 1, 20)
			says := d.waitTrouble("registry", registry.address, 20*time.Second)
			eventually(t, 30*time.Second, "partitions assigned", func() error {
				n, err := d.metric("webhook_dispatcher_bus_partitions_assigned")
				return errors.Join(err, want("number", n, 2))
			})
			throughout(t, sized(3*time.Second, 90*time.Second), "events without a registry at the start", func() error {
				at, err := s.producer.committed(registrations)
				return errors.Join(err, want("requests", s.count("hook"), 0), want("positions", at[0]+at[1], 0))
			})
			registry.restore(t)
			start := s.delivers("hook", ids, recovery)
			d.waitReady(recovery)

			// The schema of one partition's next record is new; the other goes on with the one that is known.
			away(registry)
			record, id := s.producer.event(registrations, 2, 100)
			known, inFront := s.producer.event(registrations, 2, 99)
			record.Value = s.newSchema(record.Value)
			s.producer.send(known, record)
			waiting := []string{id}
			for n := 102; n < 120; n += 2 {
				record, id := s.producer.event(registrations, 2, n)
				s.producer.send(record)
				waiting = append(waiting, id)
			}
			ids = append(ids, inFront)
			for n := 101; n < 120; n += 2 {
				record, id := s.producer.event(registrations, 2, n)
				s.producer.send(record)
				ids = append(ids, id)
			}
			s.delivers("hook", ids, 10*time.Second)
			d.waitTrouble("registry", registry.address, 20*time.Second)
			eventually(t, 10*time.Second, "the position before the record", func() error {
				at, err := s.producer.committed(registrations)
				return errors.Join(err, want("it", at[0], 10))
			})
			throughout(t, sized(3*time.Second, 90*time.Second), "the partition that waits for its schema", func() error {
				at, err := s.producer.committed(registrations)
				return errors.Join(err, want("requests", s.count("hook"), len(ids)), want("position", at[0], 10))
			})
			registry.restore(t)
			later := s.delivers("hook", append(ids, waiting...), recovery)
			d.waitReady(recovery)
			eventually(t, 20*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
			if n := s.mustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"); n != 0 {
				t.Errorf("%d records were given up", n)
			}
			if n := s.count("hook"); n != len(ids)+len(waiting) {
				t.Errorf("%d requests for %d events", n, len(ids)+len(waiting))
			}
			figure(t, "said %q; delivered %s after it was back at the start, %s later; stopped in %s", says, start, later, d.terminate())
		})
	}
}

// newSchema registers a schema that differs from the event's in its name's documentation alone, and returns the value under its id.
func (s *site) newSchema(value []byte) []byte {
	s.t.Helper()
	registry, err := sr.NewClient(sr.URLs(s.registry))
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.Replace(s.producer.schema.String(), "{", fmt.Sprintf(`{"doc": %q,`, s.prefix), 1)
	id, err := registry.RegisterSchema(context.Background(), s.topic("new"), sr.Schema{Schema: text}, -1, -1)
	if err != nil {
		s.t.Fatal(err)
	}
	if uint32(id) == s.producer.id {
		s.t.Fatal("the registry knows the schema already")
	}
	return append([]byte{0, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, value[5:]...)
}
