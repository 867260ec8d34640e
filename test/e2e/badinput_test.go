//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// TestRecordsThatNobodyExpected publishes every kind of broken, odd and huge record among good
// ones. None may stop the daemon or hold up its partition. Records that can never be decoded are
// kept with a reason.
func TestRecordsThatNobodyExpected(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	rows := s.Rule("rows") // fails at first, so that every body must fit into a row
	s.On("rows", harness.Answers(500, 200))
	s.Producer.CreateTopic(harness.Registrations, 1, "max.message.bytes", "12000000")
	number := 0
	next := func(change func(r *kgo.Record)) string {
		number++
		record, id := s.Producer.Event(harness.Registrations, 1, number)
		if change != nil {
			change(record)
		}
		s.Producer.Send(record)
		return id
	}
	header := func(r *kgo.Record, key string) *kgo.RecordHeader {
		return &r.Headers[slices.IndexFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == key })]
	}
	without := func(keys ...string) func(*kgo.Record) {
		return func(r *kgo.Record) {
			r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return slices.Contains(keys, h.Key) })
		}
	}
	twice := func(key string) func(*kgo.Record) {
		return func(r *kgo.Record) { r.Headers = append(r.Headers, *header(r, key)) }
	}
	huge := func(size int) func(*kgo.Record) {
		return func(r *kgo.Record) {
			r.Value = s.Producer.Value(1, strings.Repeat("x", size/2)) // the value holds the name twice
		}
	}

	good := []string{next(nil)}
	kept := map[string]int{} // undecodable records by reason
	for _, bad := range []struct {
		reason string
		change func(*kgo.Record)
	}{
		{"null_value", func(r *kgo.Record) { r.Value = nil }}, // a tombstone
		{"bad_magic", func(r *kgo.Record) { r.Value = []byte{} }},
		{"bad_magic", func(r *kgo.Record) { r.Value = []byte("no such thing") }},
		{"bad_magic", func(r *kgo.Record) { r.Value = r.Value[:4] }},
		{"corrupt", func(r *kgo.Record) { r.Value = r.Value[:len(r.Value)-3] }},
		{"corrupt", func(r *kgo.Record) { r.Value = append(r.Value[:5:5], bytes.Repeat([]byte{0xff}, 9)...) }},
		{"trailing_bytes", func(r *kgo.Record) { r.Value = append(r.Value, 1, 2, 3) }},
		{"invalid_utf8", func(r *kgo.Record) { r.Value = bytes.Replace(r.Value, []byte("Zo\xc3"), []byte("Zo\xff"), 1) }},
		{"no_type", without("ce_type")},
		{"no_id", without("ce_id")},
		{"repeated_header", twice("ce_type")},
		{"repeated_header", twice("ce_id")},
		{"repeated_header", twice("ce_source")},
		{"bad_header", func(r *kgo.Record) { header(r, "ce_id").Value = []byte{0xff, 0xfe} }},
		{"no_type", func(r *kgo.Record) { r.Headers = nil }},
		{"no_type", func(r *kgo.Record) { r.Headers, r.Key, r.Value = nil, nil, nil }},
	} {
		next(bad.change)
		kept[bad.reason]++
	}
	// Odd, but good enough to be delivered.
	for _, odd := range []func(*kgo.Record){
		without("ce_time", "ce_source", "ce_minorversion", "sourcehost", "sourcelib", "ce_specversion", "content-type", "ce_datacontenttype"),
		func(r *kgo.Record) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: "x", Value: []byte{0xff}}, kgo.RecordHeader{Key: "x"})
		},
		func(r *kgo.Record) { r.Key = nil },
		huge(3 << 20), huge(7 << 20),
	} {
		good = append(good, next(odd))
	}
	// An event without a rule is released without decoding its value.
	next(func(r *kgo.Record) {
		header(r, "ce_type").Value = []byte("org.openedx.no.such.event.v1")
		r.Value = []byte{9}
	})
	good = append(good, next(nil))
	good = append(good, s.Transactions(&number)...)
	good = append(good, next(nil))

	// A body too large for a row: the limit is half of the database's max_allowed_packet, 16 MiB.
	tooLarge := next(huge(10 << 20))

	d := s.Serve("WEBHOOK_DISPATCHER_FETCH_BUDGET=4MiB", "WEBHOOK_DISPATCHER_RETRY_SCHEDULE=1s,1s")
	took := harness.Eventually(t, time.Minute, "good records", func() error {
		var missing []string
		for hook, ids := range map[string][]string{"hook": append(good, tooLarge), "rows": good} {
			taken := s.Taken(hook)
			for _, id := range ids {
				if taken[id] == 0 {
					missing = append(missing, hook+" "+id)
				}
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("missing: %v; rows: %v", missing, s.UndecodableReasons())
		}
		return nil
	})
	s.Producer.WaitCommitted(20*time.Second, harness.Registrations)
	if n := s.Rows("rule_id = ? AND state = 3 AND reason = 'too_large'", rows); n != 1 {
		t.Errorf("%d rows are dead because of their size, want 1", n)
	}
	reasons := s.UndecodableReasons()
	if !maps.Equal(reasons, kept) {
		t.Errorf("undecodable records by reason: %v, want %v", reasons, kept)
	}
	for reason, n := range kept {
		d.WaitMetric(fmt.Sprintf(`webhook_dispatcher_undecodable_total{reason="%s"}`, reason), float64(n), 5*time.Second)
	}
	harness.Figure(t,
		"%d good and odd records delivered after %s; undecodable: %v; stopped in %s",
		len(good), took, reasons, d.Terminate())
}

// TestUnknownSchema has a record whose schema the registry does not know. Its partition waits for a
// minute, the others do not.
func TestUnknownSchema(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	s.Rule("hook")
	s.Producer.CreateTopic(harness.Registrations, 2)
	bad, _ := s.Producer.Event(harness.Registrations, 2, 1000)
	bad.Partition = 0
	binary.BigEndian.PutUint32(bad.Value[1:], 987654321)
	s.Producer.Send(bad)
	var first, second []string
	for n := 1; n <= 40; n++ {
		record, id := s.Producer.Event(harness.Registrations, 2, n)
		s.Producer.Send(record)
		if record.Partition == 0 {
			first = append(first, id)
		} else {
			second = append(second, id)
		}
	}
	d := s.Serve()
	begun := time.Now()
	s.Delivers("hook", second, 20*time.Second)
	harness.Throughout(t, time.Until(begun.Add(50*time.Second)), "the partition waits", func() error {
		return harness.Want("undecodable records", s.MustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"), 0)
	})
	s.Delivers("hook", append(first, second...), time.Minute)
	took := harness.Since(begun)
	if n := s.MustNumber("SELECT COUNT(*) FROM webhook_dispatcher_undecodable"); n != 1 {
		t.Errorf("%d undecodable records are kept, want 1", n)
	}
	s.Producer.WaitCommitted(10*time.Second, harness.Registrations)
	harness.Figure(t, "given up after %s: %v", took, s.UndecodableReasons())
	d.Terminate()
}
