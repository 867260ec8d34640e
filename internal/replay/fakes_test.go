package replay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/twmb/avro"
	"go.uber.org/goleak"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	registered = "org.openedx.learning.student.registration.completed.v1"
	enrolled   = "org.openedx.learning.course.enrollment.created.v1"
	schemaID   = 7
)

var began = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// world is what a Replayer works on.
type world struct {
	t         *testing.T
	topics    []*log
	absent    []string
	rows      map[delivery.ID]*row
	records   map[uint64]store.KeptRecord
	registry  *registry
	catalogue *schema.Catalogue
	written   []delivery.Insert // in their order
	avro      *avro.Schema

	asked     []time.Time // since of Ranges
	failRows  []error     // of the next calls that write or look at rows
	maxBody   int
	readError error // after the last record
}

// log is a partition.
type log struct {
	bus.Range
	records []*bus.Record
}

type row struct {
	number uint64
	state  delivery.State
	body   []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := catalogue.Avro(registered)
	parsed, err := avro.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := decode.ParseSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, rows: map[delivery.ID]*row{}, records: map[uint64]store.KeptRecord{}, catalogue: catalogue, avro: parsed, maxBody: 1 << 20,
		registry: &registry{schemas: map[uint32]*decode.Schema{schemaID: ours}},
	}
}

// rule returns rule 1, which wants registrations, as it stands in a snapshot.
func (w *world) rule() *rule.Rule {
	w.t.Helper()
	return w.snapshot().Match(registered)[0]
}

func (w *world) snapshot() *rule.Snapshot {
	return rule.NewSnapshot(rule.Tables{Webhooks: []rule.Row{
		{ID: 1, Created: began, Modified: began, Event: "STUDENT_REGISTRATION_COMPLETED", URL: "http://x/", Enabled: true},
		{ID: 2, Created: began, Modified: began, Event: "STUDENT_REGISTRATION_COMPLETED", URL: "http://x/", Form: true, Enabled: true},
	}}, &rule.Compiler{Catalogue: w.catalogue})
}

// idOf is the ID of the delivery of event n to rule 1.
func idOf(n int) delivery.ID {
	return delivery.NewID("lms", eventID(n), registered, delivery.KindWebhook, 1, began)
}

func eventID(n int) string { return fmt.Sprintf("event-%d", n) }

func (w *world) value(n int) []byte {
	w.t.Helper()
	value, err := w.avro.AppendEncode(binary.BigEndian.AppendUint32([]byte{0}, schemaID), map[string]any{"user": map[string]any{
		"id": int64(n), "is_active": true, "pii": map[string]any{"username": "u", "email": "e", "name": "n"},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return value
}

// record is the registration of learner n, n minutes after began.
func (w *world) record(n int) *bus.Record {
	rec := bus.NewRecord("", 0, 0)
	rec.Time, rec.Value = began.Add(time.Duration(n)*time.Minute), w.value(n)
	for _, h := range [][2]string{{"ce_type", registered}, {"ce_id", eventID(n)}, {"ce_source", "lms"}} {
		rec.Headers = append(rec.Headers, bus.Header{Key: h[0], Value: []byte(h[1])})
	}
	return rec
}

func setHeader(rec *bus.Record, key, value string) *bus.Record {
	for i := range rec.Headers {
		if rec.Headers[i].Key == key {
			rec.Headers[i].Value = []byte(value)
		}
	}
	return rec
}

// partition adds a partition that holds records from an offset on.
func (w *world) partition(topic string, start bus.Position, records ...*bus.Record) {
	n := 0
	for _, l := range w.topics {
		if l.Topic == topic {
			n++
		}
	}
	for i, rec := range records {
		rec.Topic, rec.Partition, rec.Position = topic, n, start+bus.Position(i)
	}
	w.topics = append(w.topics, &log{bus.Range{Topic: topic, Partition: n, To: start + bus.Position(len(records)), Start: start}, records})
}

func (w *world) put(n int, state delivery.State, body string) {
	w.rows[idOf(n)] = &row{number: uint64(n), state: state, body: []byte(body)}
}

func (w *world) decoder(registry confluent.Waiting) decode.Decoder {
	w.t.Helper()
	d, err := confluent.New(confluent.Impatient(registry), w.catalogue)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) replayer(apply, everything bool) *Replayer {
	w.t.Helper()
	r, err := New(Options{
		Log: w, Decoder: w.decoder(w.registry), Rows: w, Records: w, AllTopics: everything, Run: delivery.Run{1}, Apply: apply,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// Ranges implements LogReader.
func (w *world) Ranges(_ context.Context, since time.Time) (ranges []bus.Range, absent []string, err error) {
	w.asked = append(w.asked, since)
	for _, l := range w.topics {
		r := l.Range
		r.From = r.To
		for _, rec := range slices.Backward(l.records) {
			if !rec.Time.Before(since) {
				r.From = rec.Position
			}
		}
		ranges = append(ranges, r)
	}
	return ranges, w.absent, nil
}

// Read implements LogReader.
func (w *world) Read(ctx context.Context, r bus.Range, take func(*bus.Record) error) (int64, error) {
	for _, l := range w.topics {
		if l.Topic != r.Topic || l.Partition != r.Partition {
			continue
		}
		for _, rec := range l.records {
			if rec.Position < r.From || rec.Position >= r.To {
				continue
			}
			if err := errors.Join(ctx.Err(), take(rec)); err != nil {
				return 0, err
			}
		}
	}
	return 0, w.readError
}

// Record implements LogReader.
func (w *world) Record(_ context.Context, topic string, partition int, at bus.Position) (*bus.Record, error) {
	for _, l := range w.topics {
		for _, rec := range l.records {
			if l.Topic == topic && l.Partition == partition && rec.Position == at {
				return rec, nil
			}
		}
	}
	return nil, w.readError
}

func (w *world) fault() error {
	if len(w.failRows) == 0 {
		return nil
	}
	err := w.failRows[0]
	w.failRows = w.failRows[1:]
	return err
}

// Standings implements Rows.
func (w *world) Standings(_ context.Context, ids []delivery.ID) (map[delivery.ID]store.Standing, error) {
	found := map[delivery.ID]store.Standing{}
	for _, id := range ids {
		if at := w.rows[id]; at != nil {
			found[id] = store.Standing{RowID: at.number, State: at.state, Kept: len(at.body) > 0}
		}
	}
	return found, w.fault()
}

// Insert implements Rows. An error leaves half of the rows inserted.
func (w *world) Insert(_ context.Context, rows []delivery.Insert) error {
	err := w.fault()
	if err != nil {
		rows = rows[:len(rows)/2]
	}
	var rejected delivery.RejectedError
	for i := range rows {
		if len(rows[i].Body) > w.maxBody {
			rejected.Rows = append(rejected.Rows, delivery.Rejected{Index: i, ID: rows[i].ID, Column: "body"})
		} else if w.rows[rows[i].ID] == nil {
			w.rows[rows[i].ID] = &row{number: uint64(1000 + len(w.rows)), state: rows[i].State, body: rows[i].Body}
			w.written = append(w.written, rows[i])
		}
	}
	if err == nil && len(rejected.Rows) > 0 {
		return &rejected
	}
	return err
}

// Restore implements Rows.
func (w *world) Restore(_ context.Context, rows []delivery.Insert) (n int, err error) {
	for i := range rows {
		if at := w.rows[rows[i].ID]; at.state == delivery.Dead && len(at.body) == 0 {
			at.state, at.body = delivery.Pending, rows[i].Body
			n++
		}
	}
	return n, w.fault()
}

// Replay implements Rows.
func (w *world) Replay(_ context.Context, numbers []uint64) (n int, err error) {
	for _, at := range w.rows {
		for _, number := range numbers {
			if at.number == number && at.state == delivery.Dead && len(at.body) > 0 {
				at.state = delivery.Pending
				n++
			}
		}
	}
	return n, w.fault()
}

// UndecodableRow implements Records.
func (w *world) UndecodableRow(_ context.Context, number uint64) (store.KeptRecord, bool, error) {
	rec, ok := w.records[number]
	return rec, ok, w.fault()
}

// Redeliver implements Records.
func (w *world) Redeliver(ctx context.Context, number uint64, rows []delivery.Insert) (bool, error) {
	if err := w.fault(); err != nil {
		return false, err
	}
	if _, ok := w.records[number]; !ok {
		return false, nil
	}
	before := maps.Clone(w.rows)
	if err := w.Insert(ctx, rows); err != nil {
		w.rows = before
		return false, err
	}
	delete(w.records, number)
	return true, nil
}

// keep makes a record an undecodable one.
func (w *world) keep(number uint64, rec *bus.Record) {
	kept := store.KeptRecord{RowID: number, ValueSize: int64(len(rec.Value))}
	kept.Topic, kept.Partition, kept.Offset, kept.Time = rec.Topic, int32(rec.Partition), int64(rec.Position), rec.Time
	kept.Value, kept.Key = rec.Value, rec.Key
	kept.Headers = rec.Headers
	w.records[number] = kept
}

// registry knows its schemas, denies others, and does not answer at all while it is away.
type registry struct {
	schemas map[uint32]*decode.Schema
	away    error
	asked   int
}

// Schema implements confluent.Registry, as the client does: it waits.
func (r *registry) Schema(ctx context.Context, id uint32) (*decode.Schema, error) {
	r.asked++
	if s := r.schemas[id]; s != nil && r.away == nil {
		return s, nil
	}
	<-ctx.Done()
	return nil, fmt.Errorf("wait for the schema registry: %w", context.Cause(ctx))
}

// Ready implements confluent.Waiting.
func (r *registry) Ready() error { return r.away }
