//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestRegistryAway makes the schema registry unavailable in every way, at the daemon's start and
// later when a record needs a new schema. The record's partition waits, /readyz names the registry,
// nothing is given up, and records that need no new schema continue.
func TestRegistryAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*harness.Proxy){
		"refusing":  (*harness.Proxy).Refuse,
		"silent":    (*harness.Proxy).Silence,
		"no server": func(p *harness.Proxy) { p.Answer("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") },
		// A proxy that has lost its route to the registry. Only the registry's own code 40403 means
		// that there is no such schema.
		"not found": func(p *harness.Proxy) {
			p.Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.NewSite(t)
			s.Rule("hook")
			s.Producer.CreateTopic(harness.Registrations, 2)
			s.WatchOffsets(harness.Registrations)
			host := s.RegistryAddress()
			registry := harness.NewProxy(t, host)
			away(registry)
			d := s.Launch("EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + strings.Replace(s.Registry, host, registry.Address, 1))
			ids := s.Producer.Publish(harness.Registrations, 2, 1, 20)
			says := d.WaitNotReady("registry", registry.Address, 20*time.Second)
			harness.Eventually(t, 30*time.Second, "partitions assigned", func() error {
				n, err := d.Metric("webhook_dispatcher_bus_partitions_assigned")
				return errors.Join(err, harness.Want("number", n, 2))
			})
			harness.Throughout(t, harness.Sized(3*time.Second, 90*time.Second), "events without a registry at the start", func() error {
				at, err := s.Producer.Committed(harness.Registrations)
				return errors.Join(err, harness.Want("requests", s.Count("hook"), 0), harness.Want("positions", at[0]+at[1], 0))
			})
			registry.Restore(t)
			start := s.Delivers("hook", ids, harness.Recovery)
			d.WaitReady(harness.Recovery)

			// One partition's next record has a new schema; the other continues with the known one.
			away(registry)
			record, id := s.Producer.Event(harness.Registrations, 2, 100)
			known, inFront := s.Producer.Event(harness.Registrations, 2, 99)
			record.Value = newSchema(s, record.Value)
			s.Producer.Send(known, record)
			waiting := []string{id}
			for n := 102; n < 120; n += 2 {
				record, id := s.Producer.Event(harness.Registrations, 2, n)
				s.Producer.Send(record)
				waiting = append(waiting, id)
			}
			ids = append(ids, inFront)
			for n := 101; n < 120; n += 2 {
				record, id := s.Producer.Event(harness.Registrations, 2, n)
				s.Producer.Send(record)
				ids = append(ids, id)
			}
			s.Delivers("hook", ids, 10*time.Second)
			d.WaitNotReady("registry", registry.Address, 20*time.Second)
			harness.Eventually(t, 10*time.Second, "the position before the record", func() error {
				at, err := s.Producer.Committed(harness.Registrations)
				return errors.Join(err, harness.Want("it", at[0], 10))
			})
			harness.Throughout(t, harness.Sized(3*time.Second, 90*time.Second), "the partition that waits for its schema", func() error {
				at, err := s.Producer.Committed(harness.Registrations)
				return errors.Join(err, harness.Want("requests", s.Count("hook"), len(ids)), harness.Want("position", at[0], 10))
			})
			registry.Restore(t)
			later := s.Delivers("hook", append(ids, waiting...), harness.Recovery)
			d.WaitReady(harness.Recovery)
			s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
			if n := s.MustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"); n != 0 {
				t.Errorf("%d records were given up", n)
			}
			if n := s.Count("hook"); n != len(ids)+len(waiting) {
				t.Errorf("%d requests for %d events", n, len(ids)+len(waiting))
			}
			harness.Figure(t,
				"said %q; delivered %s after it was back at the start, %s later; stopped in %s",
				says, start, later, d.Terminate())
		})
	}
}

// newSchema registers a schema that differs from the event's only in its documentation, and returns
// the value with its id.
func newSchema(s *harness.Site, value []byte) []byte {
	s.T.Helper()
	text := strings.Replace(s.Producer.Schema.String(), "{", fmt.Sprintf(`{"doc": %q,`, s.Prefix), 1)
	id := s.RegisterSchema(s.Topic("new"), text)
	if id == s.Producer.SchemaID {
		s.T.Fatal("the registry knows the schema already")
	}
	return append([]byte{0, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, value[5:]...)
}
