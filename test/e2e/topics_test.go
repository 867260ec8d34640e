//go:build e2e

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// seen is how long a new topic or partition may stay unnoticed: two refreshes of the topics, and a
// join.
const seen = 30 * time.Second

// TestTopicsThatComeLater names two topics, one of which does not exist yet, and adds a partition.
// New topics and partitions are read from the beginning although start-offset is latest, and a
// missing topic does not hold up others.
func TestTopicsThatComeLater(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	s.Producer.CreateTopic("there", 1)
	s.Producer.Publish("there", 1, 1, 10) // before the group, so not wanted
	d := s.Serve("WEBHOOK_DISPATCHER_TOPICS=there,later", "WEBHOOK_DISPATCHER_START_OFFSET=latest")

	// The offset of a topic without new events is committed at once, so that a restart loses
	// nothing.
	first := harness.Eventually(t, 20*time.Second, "the first position", func() error {
		return s.Producer.AllCommitted("there")
	})
	d.Kill()
	ids := s.Producer.Publish("there", 1, 11, 20)
	d = s.Serve("WEBHOOK_DISPATCHER_TOPICS=there,later", "WEBHOOK_DISPATCHER_START_OFFSET=latest")
	s.Delivers("hook", ids, 30*time.Second)

	// The topic is created, with events, while no daemon runs.
	d.Terminate()
	s.Producer.CreateTopic("later", 2)
	ids = append(ids, s.Producer.Publish("later", 2, 21, 40)...)
	d = s.Serve("WEBHOOK_DISPATCHER_TOPICS=there,later", "WEBHOOK_DISPATCHER_START_OFFSET=latest")
	later := s.Delivers("hook", ids, seen)

	// A partition is added while the daemon runs; its first events come before the daemon has seen
	// it.
	if _, err := s.Producer.Admin.UpdatePartitions(context.Background(), 2, s.Topic("there")); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 10*time.Second, "the new partition", func() error {
		ends, err := s.Producer.Ends("there")
		return errors.Join(err, harness.Want("partitions", len(ends), 2))
	})
	// The old one does not know of the partition yet.
	ids = append(ids, harness.NewProducer(s).Publish("there", 2, 41, 60)...)
	partition := s.Delivers("hook", ids, seen)
	for _, topic := range []string{"there", "later"} {
		s.Producer.WaitCommitted(10*time.Second, topic)
	}
	harness.Figure(t,
		"first position committed after %s; a topic that came later read after %s, a new partition after %s",
		first, later, partition)
	d.Terminate()
}

// TestTopicsUnderThePrefix consumes every topic under the prefix, including one that comes later.
func TestTopicsUnderThePrefix(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	s.Producer.CreateTopic("one", 2)
	s.Producer.Publish("one", 2, 1, 10) // before the group, which starts at the latest
	other := "not" + s.Prefix + "-x"
	if _, err := s.Producer.Admin.CreateTopic(context.Background(), 1, 1, nil, other); err != nil {
		t.Fatal(err)
	}
	d := s.Serve("WEBHOOK_DISPATCHER_TOPICS=*", "WEBHOOK_DISPATCHER_START_OFFSET=latest")
	harness.Eventually(t, 20*time.Second, "the first positions", func() error {
		return s.Producer.AllCommitted("one")
	})
	ids := s.Producer.Publish("one", 2, 11, 20)
	s.Delivers("hook", ids, 20*time.Second)
	s.Producer.CreateTopic("two", 1)
	record, id := s.Producer.Event("two", 1, 21)
	untyped, _ := s.Producer.Event("two", 1, 22)
	untyped.Headers = untyped.Headers[:3]
	foreign, _ := s.Producer.Event("two", 1, 23)
	foreign.Topic = other
	s.Producer.Send(record, untyped, foreign)
	took := s.Delivers("hook", append(ids, id), seen)
	s.Producer.WaitCommitted(10*time.Second, "two")
	d.WaitMetric(`webhook_dispatcher_events_total{result="untyped"}`, 1, 5*time.Second)
	if n := s.MustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"); n != 0 {
		t.Errorf("%d rows of undecodable records under *", n)
	}
	harness.Figure(t, "a topic under the prefix that came later was read after %s", took)
	d.Terminate()
}

// TestRecordsDeletedBeforeTheyAreRead moves the start of the log past the committed offset while no
// daemon runs.
func TestRecordsDeletedBeforeTheyAreRead(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	s.Producer.CreateTopic(harness.Registrations, 1)
	ids := s.Producer.Publish(harness.Registrations, 1, 1, 10)
	d := s.Serve()
	s.Delivers("hook", ids, 20*time.Second)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	d.Terminate()
	s.Producer.Publish(harness.Registrations, 1, 11, 30)
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: s.Topic(harness.Registrations), Partition: 0, At: 25})
	deleted, err := s.Producer.Admin.DeleteRecords(context.Background(), offsets)
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	d = s.Serve()
	left := ids
	for n := 26; n <= 30; n++ {
		_, id := s.Producer.Event(harness.Registrations, 1, n)
		left = append(left, id)
	}
	s.Delivers("hook", left, 20*time.Second)
	d.WaitMetric("webhook_dispatcher_records_lost_total", 15, 5*time.Second)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	harness.Figure(t, "15 records lost to retention were counted")
	d.Terminate()
}
