package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

func TestReplayFromTopic(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 6 {
		s.publish("dev-a", int32(n%2), n, s.id)
	}
	s.publish("dev-b", 0, 6, s.id)
	s.publish("dev-b", 0, 7, s.id)
	s.must(s.broker.DeleteRecords("dev-b", 0, 1))
	s.must(s.broker.Publish(t.Context(), fakes.Message{Topic: "dev-a", Time: began.Add(8 * time.Minute), Value: []byte(learner)}))
	s.put(2, delivery.Delivered, "")
	s.put(3, delivery.Dead, "kept")
	s.put(4, delivery.Dead, "")
	s.put(5, delivery.Pending, "kept")
	id := strconv.Itoa(int(s.rule.ID))
	s.env[3] = "WEBHOOK_DISPATCHER_TOPICS=a,b,missing"
	command := []string{"deliveries", "replay", "--from-topic", "--rule", id, "--since", began.Add(time.Minute).Format(time.RFC3339)}
	head := []string{
		"rule " + id + ", " + registered + ", from 2026-03-01T10:01:00.000Z to the end",
		"dev-a, partition 0: offsets 1 to 4",
		"dev-a, partition 1: offsets 0 to 3",
		"dev-b, partition 0: offsets 1 to 2; nothing before 2026-03-01T10:07:00.000Z is in the topic any more",
		"topic dev-missing does not exist",
		"7 records, 6 of them for the rule",
	}
	left := []string{
		"1 delivery waits already and will be sent: left",
		"1 delivery was taken within the last day: left; --new-id sends them again",
		"1 record cannot be read (no_type 1): left out; see undecodable list",
	}
	before := s.rows("TRUE")
	stdout, _ := s.run(ExitGood, command...)
	s.compare("dry run", stdout, slices.Concat(head, []string{"2 deliveries would be made", "2 dead deliveries would be pending again"}, left,
		[]string{"1 delivery waits as a row of rule " + id + " now", notDone})...)
	s.wantRows("TRUE", before...)

	stdout, _ = s.run(ExitGood, append(command, "--yes")...)
	s.compare("replay", stdout, slices.Concat(head, []string{"2 deliveries are pending", "2 dead deliveries are pending again"}, left,
		[]string{"5 deliveries wait as rows of rule " + id + " now"})...)
	s.wantRows("TRUE", "event-1 0 replay 1", "event-2 2  0", "event-3 0  1", "event-4 0  1", "event-5 0 http_status 1", "event-7 0 replay 1")
	rows, err := s.store.Claim(t.Context(), delivery.Lane{Kind: delivery.KindWebhook, RuleID: s.rule.ID}, 10, time.Minute, delivery.Token{1})
	s.must(err)
	for i := range rows {
		if n := rows[i].EventID; n == "event-1" && (rows[i].ID != s.deliveryID(1) || !strings.Contains(string(rows[i].Body), learner)) {
			t.Errorf("row of event 1: %s", rows[i].ID)
		}
	}

	stdout, _ = s.run(ExitGood, append(command, "--yes", "--new-id", "--until", "2026-03-01T10:03:00Z", "--json")...)
	var view admin.TopicReplayView
	s.must(json.Unmarshal([]byte(stdout), &view))
	if !view.Applied || !view.Complete || view.Inserted != 2 || view.Events != 2 || view.RuleRowsWaiting != 7 || len(view.Partitions) != 3 ||
		view.Partitions[0].Next != 4 || !slices.Equal(view.AbsentTopics, []string{"dev-missing"}) || view.Until == nil {
		t.Errorf("--new-id --json: %s", stdout)
	}
	s.wantRows("event_id IN ('event-1', 'event-2') AND state = 0", "event-1 0 replay 1", "event-2 0 replay 1")
	// No position was moved and no group made.
	if at, err := s.broker.Committed(t.Context(), "dev-webhook-dispatcher", "dev-a", 0); err == nil && at != -1 {
		t.Errorf("committed %d", at)
	}
}

func TestReplayFromTopicRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.publish("dev-a", 0, 1, s.id)
	id := strconv.Itoa(int(s.rule.ID))
	command := []string{"deliveries", "replay", "--from-topic", "--since", "2026-01-01T00:00:00Z", "--rule"}
	refused := func(code int, want string, args ...string) {
		t.Helper()
		if stdout, stderr := s.run(code, append(slices.Clone(command), args...)...); !strings.Contains(stderr, want) {
			t.Errorf("%v: %s%s\nwant %q", args, stdout, stderr, want)
		}
	}
	refused(ExitFailed, "there is no webhook rule 99", "99")
	refused(ExitUsage, "rule "+id+" wants "+registered, id, "--event", "BADGE_AWARDED")
	stdout, _ := s.run(ExitGood, append(slices.Clone(command), id, "--event", "STUDENT_REGISTRATION_COMPLETED")...)
	if !strings.Contains(stdout, "1 delivery would be made") {
		t.Errorf("with the rule's own event: %s", stdout)
	}
	set := func(column, value string) {
		t.Helper()
		_, err := s.db.ExecContext(t.Context(), "UPDATE openedx_webhooks_webhook SET "+column+" = "+value)
		s.must(err)
	}
	set("enabled", "0")
	refused(ExitFailed, "rule "+id+" is disabled, so nothing is sent for it: rules set "+id+" --enable", id)
	set("event", "'NONSENSE'")
	refused(ExitFailed, "rule "+id+" cannot be used: unknown event", id)
	set("event", "'STUDENT_REGISTRATION_COMPLETED'")
	set("enabled", "1")
	_, err := s.store.PauseRule(t.Context(), delivery.Lane{Kind: delivery.KindWebhook, RuleID: s.rule.ID}, delivery.ReasonStatus)
	s.must(err)
	stdout, _ = s.run(ExitGood, append(slices.Clone(command), id, "--yes")...)
	if !strings.Contains(stdout, "rule "+id+" is paused: its rows wait until webhook-dispatcher rules set "+id+" --resume") {
		t.Errorf("of a paused rule: %s", stdout)
	}
	_, err = s.db.ExecContext(t.Context(), `UPDATE webhook_dispatcher_rule_option SET options = '{"later": 1}'`)
	s.must(err)
	stdout, _ = s.run(ExitGood, append(slices.Clone(command), id, "--yes")...)
	if !strings.Contains(stdout, "nothing is sent to rule "+id+", and its rows wait: the options are not as this version knows them") {
		t.Errorf("of a held rule: %s", stdout)
	}

	s.env[3] = "WEBHOOK_DISPATCHER_TOPICS=missing"
	refused(ExitFailed, "none of the topics exists: see WEBHOOK_DISPATCHER_TOPICS", id)
	s.env[3] = "WEBHOOK_DISPATCHER_TOPICS=*"
	s.registry.Fail(503)
	refused(ExitFailed, "answered 503; see that it answers (EVENT_BUS_KAFKA_SCHEMA_REGISTRY_URL) and repeat the command", id, "--yes")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.runIn(ctx, ExitFailed, append(slices.Clone(command), id, "--yes")...)
	s.env[0] = "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1"
	refused(ExitFailed, "127.0.0.1:1", id, "--yes")
}

func TestReplayUnderNewIDs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := 1; n <= 3; n++ {
		s.publish("dev-a", int32(n%2), n, s.id)
	}
	s.put(1, delivery.Delivered, "")
	s.put(2, delivery.Dead, "")
	s.put(3, delivery.Dead, `{"kept": true}`)
	s.put(4, delivery.Delivered, "") // of an event that is not in the topics
	s.put(5, delivery.Halted, "x")
	name := func(n int) string { return s.deliveryID(n).String() }
	command := []string{"deliveries", "replay", name(1), name(2), name(3), name(3), name(4), name(5), "99", "--new-id"}
	stdout, stderr := s.run(ExitFailed, command...)
	s.compare("dry run", stdout, "3 deliveries under new ids can be made", name(5)+" cannot be replayed: it is of kind webhook, halted",
		"99 cannot be replayed: there is no such row", name(4)+" cannot be replayed: its event is not in the topics (any more)", notDone)
	s.compare("stderr", stderr, "webhook-dispatcher: searching the topics for 3 events", "webhook-dispatcher: 3 deliveries cannot be replayed")
	s.wantRows("reason = 'replay'")
	stdout, _ = s.run(ExitFailed, append(command, "--yes", "--json")...)
	var view admin.ReplayView
	s.must(json.Unmarshal([]byte(stdout), &view))
	if !view.Applied || view.Replayable != 3 || view.Replayed != 3 || view.RefusedCount != 3 || len(view.Refused) != 3 {
		t.Errorf("got %s", stdout)
	}
	s.wantRows("reason = 'replay' AND state = 0 AND due_at IS NOT NULL", "event-1 0 replay 1", "event-2 0 replay 1", "event-3 0 replay 1")
	s.wantRows("body = '{\"kept\": true}'", "event-3 0 replay 1", "event-3 3  1")

	// By state. Each run has ids of its own.
	stdout, _ = s.run(ExitGood, "deliveries", "replay", "--state", "dead", "--rule", strconv.Itoa(int(s.rule.ID)), "--new-id", "--yes")
	s.compare("dead", stdout, "2 deliveries under new ids are pending")
	s.wantRows("reason = 'replay' AND event_id <> 'event-1'",
		"event-2 0 replay 1", "event-2 0 replay 1", "event-3 0 replay 1", "event-3 0 replay 1")
	stdout, _ = s.run(ExitFailed, "deliveries", "replay", "--state", "delivered", "--new-id", "--yes")
	s.compare("delivered", stdout, "1 delivery under a new id is pending",
		name(4)+" cannot be replayed: its event is not in the topics (any more)")

	// Only what has no body needs the topics.
	s.env[0] = "EVENT_BUS_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1"
	stdout, _ = s.run(ExitGood, "deliveries", "replay", name(3), "--new-id", "--yes")
	s.compare("a row with its body", stdout, "1 delivery under a new id is pending")
	_, err := s.db.ExecContext(t.Context(), "UPDATE openedx_webhooks_webhook SET enabled = 0")
	s.must(err)
	stdout, _ = s.run(ExitFailed, "deliveries", "replay", name(3), "--new-id", "--yes")
	if !strings.Contains(stdout, "is disabled, so nothing is sent for it") {
		t.Errorf("of a disabled rule: %s", stdout)
	}
}
