package cli

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

func TestUndecodableReplay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const later = 40 // a schema that is registered later
	keep := func(n int, reason, eventType string, cut bool) {
		t.Helper()
		u := store.Undecodable{
			Topic: "dev-a", Offset: int64(n), Time: began.Add(time.Duration(n) * time.Minute), Reason: reason, Key: []byte(learner),
			Headers: []bus.Header{
				{Key: "ce_type", Value: []byte(eventType)}, {Key: "ce_id", Value: []byte(eventName(n))}, {Key: "ce_source", Value: []byte("lms")},
			},
		}
		value, err := s.avro.AppendEncode(binary.BigEndian.AppendUint32([]byte{0}, later), map[string]any{"user": map[string]any{
			"id": int64(n), "is_active": true, "pii": map[string]any{"username": learner, "email": learner, "name": learner},
		}})
		s.must(err)
		u.Value = value
		s.must(s.store.InsertUndecodable(t.Context(), u))
		if cut {
			_, err := s.db.ExecContext(t.Context(), "UPDATE webhook_dispatcher_undecodable SET record_value = 'x' WHERE record_offset = ?", n)
			s.must(err)
		}
	}
	s.publish("dev-a", 0, 0, later) // at offset 0, its value cut in the row
	keep(0, "unknown_schema", registered, true)
	keep(1, "unknown_schema", registered, false)
	keep(2, "unknown_schema", "org.openedx.learning.badge.awarded.v1", false)
	keep(3, "corrupt", registered, true) // gone from the topic
	keep(4, "no_id", "", false)

	stdout, _ := s.run(ExitFailed, "undecodable", "replay", "2")
	s.compare("with the schema missing", stdout, "0 records can be read now and would make 0 deliveries",
		"record 2 stays: unknown_schema: the schema registry has no schema 40")
	s.registry.Put(later, s.text)
	stdout, stderr := s.run(ExitFailed, "undecodable", "replay", "--all")
	s.compare("dry run", stdout, "3 records can be read now and would make 2 deliveries",
		"of these, 1 is wanted by no rule: would be removed without a delivery",
		"record 4 stays: only 1 of the 52 bytes of its value were kept, and its topic does not have the record any more",
		"record 5 stays: no_type: header ce_type is missing", notDone)
	s.compare("stderr", stderr, "webhook-dispatcher: 2 records cannot be replayed and stay")
	s.wantRows("TRUE")
	stdout, _ = s.run(ExitGood, "undecodable", "replay", "--reason", "unknown_schema", "--yes")
	s.compare("replay", stdout, "3 records replayed and removed, 2 deliveries pending",
		"of these, 1 is wanted by no rule: removed without a delivery")
	s.wantRows("due_at IS NOT NULL", "event-0 0 replay 1", "event-1 0 replay 1")
	stdout, _ = s.run(ExitFailed, "undecodable", "replay", "1", "5", "--yes", "--json")
	var view admin.UndecodableReplayView
	s.must(json.Unmarshal([]byte(stdout), &view))
	if view.Records != 0 || view.Gone != 1 || view.StayCount != 1 || len(view.Stay) != 1 || view.Stay[0].ID != 5 || !view.Applied {
		t.Errorf("got %s", stdout)
	}
	stdout, _ = s.run(ExitGood, "undecodable", "replay", "--reason", "unknown_schema", "--yes")
	s.compare("with none left", stdout, "0 records replayed and removed, 0 deliveries pending")
	s.run(ExitFailed, "undecodable", "replay", "1")
	kept, _, err := s.store.ListUndecodable(t.Context(), "", 10)
	s.must(err)
	if len(kept) != 2 {
		t.Errorf("%d records are kept, want 2", len(kept))
	}
}
