//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// seen is how long a topic or a partition that comes into being may stay unnoticed: two looks at the topics, and a join.
const seen = 30 * time.Second

// delivers waits until a hook has taken all of these events and no other.
func (s *site) delivers(hook string, ids []string, limit time.Duration) time.Duration {
	s.t.Helper()
	return eventually(s.t, limit, hook, func() error {
		taken := s.taken(hook)
		for _, id := range ids {
			if taken[id] == 0 {
				return fmt.Errorf("event %s has not come; %d events of %d have", id, len(taken), len(ids))
			}
		}
		return want("number of events", len(taken), len(ids))
	})
}

// TestTopicsThatComeLater names two topics of which one does not exist, and adds a partition: what comes later is read from its
// beginning although start-offset is latest, and a topic that is absent holds up no other.
func TestTopicsThatComeLater(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.producer.create("there", 1)
	s.producer.publish("there", 1, 1, 10) // before the group: not wanted
	d := s.serve("WEBHOOK_DISPATCHER_TOPICS=there,later", "WEBHOOK_DISPATCHER_START_OFFSET=latest")

	// The position of a topic without new events is committed at once, so that a restart loses nothing.
	first := eventually(t, 20*time.Second, "the first position", func() error { return s.producer.allCommitted("there") })
	d.kill()
	ids := s.producer.publish("there", 1, 11, 20)
	d = s.serve("WEBHOOK_DISPATCHER_TOPICS=there,later", "WEBHOOK_DISPATCHER_START_OFFSET=latest")
	s.delivers("hook", ids, 30*time.Second)

	// The topic comes while nobody runs, with events in it.
	d.terminate()
	s.producer.create("later", 2)
	ids = append(ids, s.producer.publish("later", 2, 21, 40)...)
	d = s.serve("WEBHOOK_DISPATCHER_TOPICS=there,later", "WEBHOOK_DISPATCHER_START_OFFSET=latest")
	later := s.delivers("hook", ids, seen)

	// A partition is added while it runs; its first events come before anybody has seen it.
	if _, err := s.producer.admin.UpdatePartitions(context.Background(), 2, s.topic("there")); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the new partition", func() error {
		ends, err := s.producer.ends("there")
		return errors.Join(err, want("partitions", len(ends), 2))
	})
	ids = append(ids, newProducer(s).publish("there", 2, 41, 60)...) // the old one does not know of the partition yet
	partition := s.delivers("hook", ids, seen)
	for _, topic := range []string{"there", "later"} {
		eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(topic) })
	}
	figure(t, "first position committed after %s; a topic that came later read after %s, a new partition after %s", first, later, partition)
	d.terminate()
}

// TestTopicsUnderThePrefix takes every topic under the prefix, and finds one that comes later.
func TestTopicsUnderThePrefix(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.producer.create("one", 2)
	s.producer.publish("one", 2, 1, 10) // before the group, which starts at the latest
	other := "not" + s.prefix + "-x"
	if _, err := s.producer.admin.CreateTopic(context.Background(), 1, 1, nil, other); err != nil {
		t.Fatal(err)
	}
	d := s.serve("WEBHOOK_DISPATCHER_TOPICS=*", "WEBHOOK_DISPATCHER_START_OFFSET=latest")
	eventually(t, 20*time.Second, "the first positions", func() error { return s.producer.allCommitted("one") })
	ids := s.producer.publish("one", 2, 11, 20)
	s.delivers("hook", ids, 20*time.Second)
	s.producer.create("two", 1)
	record, id := s.producer.event("two", 1, 21)
	untyped, _ := s.producer.event("two", 1, 22)
	untyped.Headers = untyped.Headers[:3]
	foreign, _ := s.producer.event("two", 1, 23)
	foreign.Topic = other
	s.producer.send(record, untyped, foreign)
	took := s.delivers("hook", append(ids, id), seen)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted("two") })
	d.metricIs(`webhook_dispatcher_events_total{result="untyped"}`, 1, 5*time.Second)
	if n := s.mustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"); n != 0 {
		t.Errorf("%d rows of undecodable records under *", n)
	}
	figure(t, "a topic under the prefix that came later was read after %s", took)
	d.terminate()
}

// TestRecordsDeletedBeforeTheyAreRead moves the start of the log past the group's position while the daemon is away.
func TestRecordsDeletedBeforeTheyAreRead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.rule("hook")
	s.producer.create(registrations, 1)
	ids := s.producer.publish(registrations, 1, 1, 10)
	d := s.serve()
	s.delivers("hook", ids, 20*time.Second)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	d.terminate()
	s.producer.publish(registrations, 1, 11, 30)
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: s.topic(registrations), Partition: 0, At: 25})
	deleted, err := s.producer.admin.DeleteRecords(context.Background(), offsets)
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	d = s.serve()
	left := ids
	for n := 26; n <= 30; n++ {
		_, id := s.producer.event(registrations, 1, n)
		left = append(left, id)
	}
	s.delivers("hook", left, 20*time.Second)
	d.metricIs("webhook_dispatcher_records_lost_total", 15, 5*time.Second)
	eventually(t, 10*time.Second, "offsets", func() error { return s.producer.allCommitted(registrations) })
	figure(t, "15 records lost to retention were counted")
	d.terminate()
}
