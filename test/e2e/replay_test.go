//go:build e2e

package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// runCommand runs a command under the daemon's account and checks its exit code, and that it prints
// no secrets or learners' data.
func runCommand(s *harness.Site, code int, env []string, args ...string) (stdout, stderr string) {
	s.T.Helper()
	stdout, stderr, got := s.Try("serve", env, args...)
	if got != code {
		s.T.Fatalf("webhook-dispatcher %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	for _, canary := range harness.Canaries {
		if strings.Contains(stdout+stderr, canary) {
			s.T.Errorf("webhook-dispatcher %s prints %q", strings.Join(args, " "), canary)
		}
	}
	return stdout, stderr
}

// waitTaken waits until a hook has taken each of the events exactly n times and no others.
func waitTaken(s *harness.Site, hook string, n int, ids []string) time.Duration {
	s.T.Helper()
	return harness.Eventually(s.T, time.Minute, fmt.Sprintf("%s: each event %d times", hook, n), func() error {
		taken := s.Taken(hook)
		for _, id := range ids {
			if taken[id] != n {
				return fmt.Errorf("event %s has come %d times", id, taken[id])
			}
		}
		return harness.Want("number of events", len(taken), len(ids))
	})
}

// TestReplayForAReceiverThatLostItsData replays all events of the real publisher from the topics:
// first with their old ids, as a receiver that has lost its data needs, then with new ones. Other
// rules get nothing, and no committed offset moves.
func TestReplayForAReceiverThatLostItsData(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	rule := s.Rule("hook")
	s.Rule("other")
	s.Producer.CreateTopic(harness.Registrations, 4)
	var ids []string
	for _, event := range s.Publish("--type", harness.Registration, "--count", "200", "--topic", harness.Registrations).All() {
		ids = append(ids, event.ID)
	}
	d := s.Serve(harness.SlowHandOff)
	waitTaken(s, "hook", 1, ids)
	waitTaken(s, "other", 1, ids)
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	before, err := s.Producer.Committed(harness.Registrations)
	if err != nil {
		t.Fatal(err)
	}

	replay := []string{"deliveries", "replay", "--from-topic", "--rule", rule, "--since", "1h"}
	if stdout, _ := runCommand(s, 0, nil, replay...); !strings.Contains(stdout, "\n200 deliveries would be made\n") || s.Rows("TRUE") != 0 {
		t.Errorf("the dry run made %d rows and says:\n%s", s.Rows("TRUE"), stdout)
	}
	begun := time.Now()
	stdout, _ := runCommand(s, 0, nil, append(replay, "--yes", "--json")...)
	var result struct{ Inserted, Records int }
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || result.Inserted != 200 || result.Records != 200 {
		t.Errorf("%v: %s", err, stdout)
	}
	made := harness.Since(begun)
	waitTaken(s, "hook", 2, ids)
	sent := harness.Since(begun)
	first := map[string]harness.Received{}
	for _, r := range s.Got("hook") {
		if old, again := first[r.ID]; again && (old.Body != r.Body || old.Event != r.Event) {
			t.Errorf("delivery %s has another body the second time", r.ID)
		}
		first[r.ID] = r
	}
	if len(first) != len(ids) {
		t.Errorf("%d ids of %d deliveries: a replay without --new-id keeps them", len(first), len(ids))
	}

	harness.Eventually(t, 20*time.Second, "results", func() error {
		return harness.Want("delivered rows", s.Rows("state = 2"), 200)
	})
	stdout, _ = runCommand(s, 0, nil, append(replay, "--yes")...)
	if !strings.Contains(stdout, "\n0 deliveries are pending\n200 deliveries were taken within the last day: left; --new-id") {
		t.Errorf("a second replay says:\n%s", stdout)
	}
	runCommand(s, 0, nil, append(replay, "--yes", "--new-id")...)
	waitTaken(s, "hook", 3, ids)
	fresh := map[string]bool{}
	for _, r := range s.Got("hook") {
		fresh[r.ID] = true
	}
	if len(fresh) != 2*len(ids) {
		t.Errorf("%d ids of %d deliveries, want a second one of each", len(fresh), len(ids))
	}

	// One of them by its id: its row no longer has a body, so it is read from the topic.
	var one harness.Received
	for _, one = range first {
		break
	}
	if _, stderr := runCommand(s, 1, nil, "deliveries", "replay", one.ID, "--yes"); !strings.Contains(
		stderr, "1 delivery cannot be replayed") {
		t.Errorf("of a delivered one: %s", stderr)
	}
	runCommand(s, 0, nil, "deliveries", "replay", one.ID, "--new-id", "--yes")
	harness.Eventually(t, 20*time.Second, "the delivery", func() error {
		return harness.Want("times", s.Taken("hook")[one.Event], 4)
	})

	waitTaken(s, "other", 1, ids)
	if after, err := s.Producer.Committed(harness.Registrations); err != nil || !maps.Equal(before, after) {
		t.Errorf("positions %v, before the replays %v, %v", after, before, err)
	}
	harness.Figure(t,
		"200 events: rows made in %s, all received again after %s; stopped in %s",
		made, sent, d.Terminate())
}

// TestReplayOfWhatIsLeft replays a topic whose beginning is deleted and that has control records of
// transactions, and a compacted one. The events that are left come again, and no others.
func TestReplayOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	rule := s.Rule("hook")
	const compacted = "compacted"
	s.Producer.CreateTopic(harness.Registrations, 1)
	s.Producer.CreateTopic(compacted, 1, "cleanup.policy", "compact", "segment.ms", "500", "min.cleanable.dirty.ratio", "0.001")
	trimmed := s.Producer.Publish(harness.Registrations, 1, 1, 20)
	number := 20
	trimmed = append(trimmed, s.Transactions(&number)...)
	record, id := s.Producer.Event(harness.Registrations, 1, 30)
	s.Producer.Send(record)
	trimmed = append(trimmed, id)
	settings := []string{"WEBHOOK_DISPATCHER_TOPICS=" + harness.Registrations + "," + compacted, harness.SlowHandOff}
	d := s.Serve(settings...) // before the events, because compaction may start any time
	var all []string          // of the compacted topic; the last segment is never compacted
	for n := 100; n < 140; n++ {
		record, id := s.Producer.Event(compacted, 1, n)
		record.Key = fmt.Append(nil, "key ", n%3)
		all = append(all, id)
		if n >= 138 {
			<-time.After(time.Second) // so that it begins a segment
		}
		s.Producer.Send(record)
	}
	waitTaken(s, "hook", 1, append(trimmed, all...))
	for _, topic := range []string{harness.Registrations, compacted} {
		s.Producer.WaitCommitted(10*time.Second, topic)
	}
	d.Terminate()

	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: s.Topic(harness.Registrations), Partition: 0, At: 5})
	if deleted, err := s.Producer.Admin.DeleteRecords(context.Background(), offsets); err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	var left []string
	took := harness.Eventually(t, 2*time.Minute, "compaction", func() error {
		left = s.Producer.ReadAll(compacted, 0)
		if len(left) >= len(all) {
			return fmt.Errorf("%d records", len(left))
		}
		return nil
	})
	left = s.Producer.ReadAll(compacted, 0)
	stdout, _ := runCommand(s, 0, settings, "deliveries", "replay", "--from-topic", "--rule", rule, "--since", "1h", "--yes")
	if !strings.Contains(stdout, "partition 0: offsets 5 to ") || !strings.Contains(stdout, " is in the topic any more") ||
		!strings.Contains(stdout, fmt.Sprintf("\n%d deliveries are pending\n", len(trimmed)-5+len(left))) {
		t.Errorf("with %d records left in the compacted topic:\n%s", len(left), stdout)
	}
	again := map[string]bool{}
	for _, id := range append(trimmed[5:], left...) {
		again[id] = true
	}
	d = s.Serve(settings...)
	check := func() error {
		for id, n := range s.Taken("hook") {
			if wanted := 1 + map[bool]int{true: 1}[again[id]]; n != wanted {
				return fmt.Errorf("event %s came %d times, want %d", id, n, wanted)
			}
		}
		return nil
	}
	harness.Eventually(t, 30*time.Second, "what is left", check)
	harness.Figure(t,
		"%d of %d records were left after compaction, which took %s; stopped in %s",
		len(left), len(all), took, d.Terminate())
	if err := check(); err != nil {
		t.Error(err)
	}
}

// TestUndecodableIsRepaired has events whose schema the registry has lost. They are kept as
// undecodable and delivered after the schema is registered again.
func TestUndecodableIsRepaired(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	own := harness.OwnServer(t, "registry")
	url := "http://" + own.Address() + "/apis/ccompat/v7"
	settings := []string{"EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL=" + url}
	s.Producer.CreateTopic(harness.Registrations, 1)
	var ids []string
	for n := 1; n <= 3; n++ {
		record, id := s.Producer.Event(harness.Registrations, 1, n)
		binary.BigEndian.PutUint32(record.Value[1:], 1) // the first id of a new registry
		s.Producer.Send(record)
		ids = append(ids, id)
	}
	d := s.Serve(settings...)
	harness.Eventually(t, 2*time.Minute, "undecodable records", func() error {
		return harness.Want("records", s.UndecodableReasons()["unknown_schema"], 3)
	})
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)

	stdout, stderr := runCommand(s, 1, settings, "undecodable", "replay", "--all", "--yes")
	if !strings.Contains(stdout, "0 records replayed and removed") || !strings.Contains(stdout, "stays: unknown_schema") ||
		!strings.Contains(stderr, "3 records cannot be replayed and stay") {
		t.Errorf("with the schema missing:\n%s%s", stdout, stderr)
	}
	registry, err := sr.NewClient(sr.URLs(url))
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := catalogue.Avro(harness.Registration)
	if id, err := registry.RegisterSchema(context.Background(), "any", sr.Schema{Schema: text}, -1, -1); err != nil || id != 1 {
		t.Fatalf("the schema got id %d, %v", id, err)
	}
	if stdout, _ = runCommand(s, 0, settings, "undecodable", "replay", "--all"); !strings.Contains(stdout,
		"3 records can be read now and would make 3 deliveries") || s.Rows("TRUE") != 0 {
		t.Errorf("the dry run says:\n%s", stdout)
	}
	runCommand(s, 0, settings, "undecodable", "replay", "--all", "--yes")
	took := waitTaken(s, "hook", 1, ids)
	if reasons := s.UndecodableReasons(); len(reasons) > 0 {
		t.Errorf("still kept: %v", reasons)
	}
	harness.Figure(t, "3 records delivered %s after their schema was there; stopped in %s", took, d.Terminate())
}
