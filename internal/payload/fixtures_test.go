package payload_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode/confluent"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// captured is an event as the real producer wrote it, with the bodies that the real plugin sent of
// it.
type captured struct {
	InProcess struct {
		JSON struct{ Body string } `json:"json"`
		Form struct{ Body string } `json:"form"`
	} `json:"http_in_process"`
	Kafka *struct {
		Topic   string          `json:"topic"`
		Key     []byte          `json:"key_b64"`
		Value   []byte          `json:"value_b64"`
		Headers [][2]string     `json:"headers"`
		Schema  json.RawMessage `json:"value_schema"`
	} `json:"kafka"`
}

// Schema is the registry that has the fixture's schema under every id.
func (c *captured) Schema(context.Context, uint32) (*decode.Schema, error) {
	return decode.ParseSchema(string(c.Kafka.Schema))
}

// eachCaptured calls test with every captured event: with the message that was decoded of its
// record, nil where it has none.
func eachCaptured(t *testing.T, test func(t *testing.T, c *captured, m *payload.Message)) {
	t.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../decode/testdata/parity/event_*.json")
	if err != nil || len(files) != 111 {
		t.Fatalf("%d fixtures, %v; want 111", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c captured
			if err := json.Unmarshal(text, &c); err != nil {
				t.Fatal(err)
			}
			var m *payload.Message
			if c.Kafka != nil && len(c.Kafka.Value) > 0 {
				m = c.decoded(t, catalogue)
			}
			test(t, &c, m)
		})
	}
}

func (c *captured) decoded(t *testing.T, catalogue *schema.Catalogue) *payload.Message {
	t.Helper()
	d, err := confluent.New(c, catalogue)
	if err != nil {
		t.Fatal(err)
	}
	rec := bus.NewRecord(c.Kafka.Topic, 0, 0)
	rec.Time, rec.Key, rec.Value = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), c.Kafka.Key, c.Kafka.Value
	for _, h := range c.Kafka.Headers {
		rec.Headers = append(rec.Headers, bus.Header{Key: h[0], Value: []byte(h[1])})
	}
	ev, err := d.Envelope(rec)
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.Message(t.Context(), rec, ev)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
