package decode

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// exchange is a request that the plugin made.
type exchange struct {
	JSON struct{ Body string } `json:"json"`
	Form struct{ Body string } `json:"form"`
}

// parityFixture is an event that the real plugin sent, with the record that the real producer wrote
// for it.
type parityFixture struct {
	name      string
	Event     string   `json:"event"`
	Type      string   `json:"event_type"`
	Class     string   `json:"data_class"`
	InProcess exchange `json:"http_in_process"`
	Kafka     *struct {
		Topic    string          `json:"topic"`
		Key      []byte          `json:"key_b64"`
		Value    []byte          `json:"value_b64"`
		Headers  [][2]string     `json:"headers"`
		Schema   json.RawMessage `json:"value_schema"`
		SchemaID uint32          `json:"value_schema_id"`
	} `json:"kafka"`
}

// wireFixture is a record that went through a real Kafka and a real registry.
type wireFixture struct {
	name        string
	Type        string `json:"event_type"`
	Topic       string `json:"topic"`
	Partition   int    `json:"partition"`
	Offset      int64  `json:"offset"`
	TimestampMS int64  `json:"timestamp_ms"`
	Key         []byte `json:"key_b64"`
	Value       []byte `json:"value_b64"`
	Headers     []struct {
		Key   string `json:"key"`
		Value []byte `json:"value_b64"`
	} `json:"headers"`
	KeySchema     string          `json:"key_schema"`
	KeyDecoded    json.RawMessage `json:"key_decoded"`
	ValueSchemaID uint32          `json:"value_schema_id"`
	ValueSchema   string          `json:"value_schema"`
	Decoded       json.RawMessage `json:"value_decoded"`
}

func readFixtures[T any](t testing.TB, pattern string, named func(*T, string)) []T {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var all []T
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if strings.HasPrefix(name, "_") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var fixture T
		if err := json.Unmarshal(text, &fixture); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		named(&fixture, name)
		all = append(all, fixture)
	}
	return all
}

func parityFixtures(t testing.TB) []parityFixture {
	t.Helper()
	all := readFixtures(t, "testdata/parity/event_*.json", func(f *parityFixture, name string) { f.name = name })
	if len(all) != 111 {
		t.Fatalf("%d parity fixtures, want 111", len(all))
	}
	return all
}

func wireFixtures(t testing.TB) []wireFixture {
	t.Helper()
	all := readFixtures(t, "testdata/wire/*.json", func(f *wireFixture, name string) { f.name = name })
	if len(all) != 78 {
		t.Fatalf("%d wire fixtures, want 78", len(all))
	}
	return all
}

func (f *parityFixture) record() *bus.Record {
	rec := bus.NewRecord(f.Kafka.Topic, 0, 0)
	rec.Time = recordTime
	rec.Key, rec.Value = f.Kafka.Key, f.Kafka.Value
	for _, h := range f.Kafka.Headers {
		rec.Headers = append(rec.Headers, bus.Header{Key: h[0], Value: []byte(h[1])})
	}
	return rec
}

func (f *wireFixture) record() *bus.Record {
	rec := bus.NewRecord(f.Topic, f.Partition, bus.Position(f.Offset))
	rec.Time = time.UnixMilli(f.TimestampMS)
	rec.Key, rec.Value = f.Key, f.Value
	for _, h := range f.Headers {
		rec.Headers = append(rec.Headers, bus.Header{Key: h.Key, Value: h.Value})
	}
	return rec
}

var recordTime = time.Date(2030, 1, 2, 3, 4, 5, 678_000_000, time.UTC)

// prefixSize is what the records of the fixtures have in front of the Avro value; see
// decode/confluent.
const prefixSize = 5

// oneSchema is a decoder with the same schema for every record.
type oneSchema struct {
	*Reader
	schema *Schema
}

func (d oneSchema) Message(_ context.Context, rec *bus.Record, ev event.Event) (*payload.Message, error) {
	return d.Data(d.schema, rec.Value[prefixSize:], rec, ev)
}

func mustSchema(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := ParseSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newDecoder(t testing.TB, s *Schema) Decoder {
	t.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(catalogue)
	if err != nil {
		t.Fatal(err)
	}
	return oneSchema{r, s}
}

// value puts the prefix of the wire format before Avro bytes.
func framed(id uint32, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, id), body...)
}
