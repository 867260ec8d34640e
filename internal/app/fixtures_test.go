package app_test

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
)

// fixture is an event that the real plugin sent, with the record that the real producer wrote for
// it.
type fixture struct {
	Event     string `json:"event"`
	Type      string `json:"event_type"`
	InProcess struct {
		JSON, Form struct{ Body string }
	} `json:"http_in_process"`
	Kafka struct {
		Key     []byte          `json:"key_b64"`
		Value   []byte          `json:"value_b64"`
		Headers [][2]string     `json:"headers"`
		Schema  json.RawMessage `json:"value_schema"`
	} `json:"kafka"`
}

// load reads a fixture and registers its schema: its value gets the id that the registry gives.
func (w *world) load(name string) *fixture {
	w.t.Helper()
	text, err := os.ReadFile("testdata/parity/event_" + name + ".json")
	if err != nil {
		w.t.Fatal(err)
	}
	f := &fixture{}
	if err := json.Unmarshal(text, f); err != nil {
		w.t.Fatal(err)
	}
	id := w.registry.Register(string(f.Kafka.Schema))
	f.Kafka.Value = append([]byte{0, 0, 0, byte(id >> 8), byte(id)}, f.Kafka.Value[5:]...)
	return f
}

// message is the captured record under another event id.
func (f *fixture) message(partition int32, eventID string) fakes.Message {
	m := fakes.Message{Topic: topic, Partition: partition, Key: f.Kafka.Key, Value: f.Kafka.Value}
	for _, h := range f.Kafka.Headers {
		if h[0] == "ce_id" {
			h[1] = eventID
		}
		m.Headers = append(m.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return m
}

// body is what the plugin would send in process for the event under that id.
func (f *fixture) body(form bool, eventID string) string {
	body := f.InProcess.JSON.Body
	if form {
		body = f.InProcess.Form.Body
	}
	return strings.ReplaceAll(body, capturedID, eventID)
}

func (w *world) publish(messages ...fakes.Message) {
	w.t.Helper()
	if err := w.broker.Publish(w.t.Context(), messages...); err != nil {
		w.t.Fatal(err)
	}
}
