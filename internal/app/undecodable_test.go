package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// Records that can never be read are kept and passed over; what comes after them is delivered.
func TestUndecodableRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	text := w.registry.Register(`{"type":"record","name":"CloudEvent","fields":[{"name":"x","type":"string"}]}`)
	notRecord := w.registry.Register(`"long"`)
	header := func(m fakes.Message, drop string, add ...string) fakes.Message {
		m.Headers = slices.DeleteFunc(m.Headers, func(h kgo.RecordHeader) bool { return h.Key == drop })
		for i := 0; i < len(add); i += 2 {
			m.Headers = append(m.Headers, kgo.RecordHeader{Key: add[i], Value: []byte(add[i+1])})
		}
		return m
	}
	value := func(v []byte) fakes.Message {
		m := f.message(0, "bad")
		m.Value = v
		return m
	}
	good := f.Kafka.Value
	bad := []struct {
		message fakes.Message
		reason  string
	}{
		{header(f.message(0, "bad"), "ce_type"), "no_type"},
		{header(f.message(0, "bad"), "ce_id"), "no_id"},
		{header(f.message(0, "bad"), "", "ce_id", "twice"), "repeated_header"},
		{header(f.message(0, "bad"), "ce_time", "ce_time", "yesterday"), "bad_header"},
		{header(f.message(0, "bad"), "ce_source", "ce_source", "\xff\xfe"), "bad_header"},
		{value(nil), "null_value"},
		{value([]byte{}), "bad_magic"},
		{value([]byte{1, 0, 0, 0, 7, 0}), "bad_magic"},
		{value([]byte("plain text, " + strings.Repeat("x", 1<<20))), "bad_magic"},
		{value(good[:len(good)-9]), "corrupt"},
		{value(append(slices.Clone(good), 0)), "trailing_bytes"},
		{value([]byte{0, 0, 0, 0, byte(text), 4, 0xff, 0xfe}), "invalid_utf8"},
		{value([]byte{0, 0, 0, 0, byte(notRecord), 2}), "bad_schema"},
	}
	want := make([]string, len(bad))
	for i, b := range bad {
		want[i] = b.reason
		w.publish(b.message)
	}
	w.publish(header(f.message(0, "good"), "sourcehost")) // only type and id are needed
	d := w.start(nil)
	calls := rec.wait(t, 1)
	w.waitCommitted(0, int64(len(bad)+1))
	if len(calls) != 1 || !strings.Contains(calls[0].Body, `"id": "good"`) {
		t.Errorf("calls: %v", calls)
	}
	if got := w.reasons(); !slices.Equal(got, want) {
		t.Errorf("reasons\n got %v\nwant %v", got, want)
	}
	if got := d.metric(`webhook_dispatcher_events_total{result="undecodable"}`); got != fmt.Sprint(len(bad)) {
		t.Errorf("%s undecodable events counted, want %d", got, len(bad))
	}
	if got := d.metric(`webhook_dispatcher_undecodable_total{reason="bad_magic"}`); got != "3" {
		t.Errorf("%s counted as bad_magic, want 3", got)
	}
	// Read again after a crash, the same records make no second row.
	d.end()
	if err := w.broker.Commit(t.Context(), group, topic, 0, 0); err != nil {
		t.Fatal(err)
	}
	w.start(nil)
	w.waitCommitted(0, int64(len(bad)+1))
	if got := w.reasons(); !slices.Equal(got, want) {
		t.Errorf("reasons after reading again\n got %v\nwant %v", got, want)
	}
	again := rec.wait(t, 2)
	if again[0].id() != again[1].id() {
		t.Errorf("read again, the delivery has another id: %s and %s", again[0].id(), again[1].id())
	}
}

// Under * what is no event is only counted.
func TestRecordsThatAreNoEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	w.publish(fakes.Message{Topic: topic, Value: []byte("something else")}, fakes.Message{Topic: topic}, f.message(0, "one"))
	d := w.start(func(cfg *config.Config) { cfg.Topics = []string{"*"} })
	rec.wait(t, 1)
	w.waitCommitted(0, 3)
	if got := w.reasons(); len(got) > 0 {
		t.Errorf("kept: %v", got)
	}
	if got := d.metric(`webhook_dispatcher_events_total{result="untyped"}`); got != "2" {
		t.Errorf("%s counted as untyped", got)
	}
}

// A registry that does not know an id yet may only be behind: the partition waits, others go on,
// and nothing is given up.
func TestUnknownSchemaIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	rec := w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	early := f.message(0, "early")
	early.Value = slices.Clone(early.Value)
	early.Value[3], early.Value[4] = 0x27, 0x0f // 9999
	w.publish(early, f.message(0, "behind it"), f.message(1, "other partition"))
	w.start(nil)
	w.waitCommitted(1, 1)
	asked := w.registry.Requests()
	wait(t, "the registry to be asked again", func() (bool, string) {
		n := w.registry.Requests()
		return n > asked, fmt.Sprint(n)
	})
	if at := w.committed(0); at != 0 {
		t.Errorf("position %d: the record has been passed over", at)
	}
	w.registry.Put(9999, string(f.Kafka.Schema))
	w.waitCommitted(0, 2)
	if n := len(rec.all()); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
	if got := w.reasons(); len(got) > 0 {
		t.Errorf("kept as undecodable: %v", got)
	}
}
