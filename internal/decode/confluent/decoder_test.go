package confluent

import (
	"context"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// oneSchema is a registry with the same schema under every id.
type oneSchema struct{ schema *decode.Schema }

func (r oneSchema) Schema(context.Context, uint32) (*decode.Schema, error) { return r.schema, nil }

func newDecoder(t *testing.T, text string) *Decoder {
	t.Helper()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	s, err := decode.ParseSchema(text)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(oneSchema{s}, catalogue)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestUndecodableFrames(t *testing.T) {
	t.Parallel()
	d := newDecoder(t, `{"type":"record","name":"CloudEvent","fields":[{"name":"f","type":"long"}]}`)
	for _, test := range []struct {
		value []byte
		want  decode.Reason
	}{
		{nil, decode.ReasonNullValue},
		{[]byte{}, decode.ReasonBadMagic},
		{[]byte{0, 0, 0, 1}, decode.ReasonBadMagic},
		{[]byte{1, 0, 0, 0, 1, 2}, decode.ReasonBadMagic},
		{[]byte(`{"no": "avro"}`), decode.ReasonBadMagic},
		{[]byte{0, 0, 0, 0, 1}, decode.ReasonCorrupt},
		{[]byte{0, 0, 0, 0, 1, 14}, ""},
	} {
		rec := bus.NewRecord("topic", 0, 0)
		rec.Value = test.value
		_, err := d.Message(t.Context(), rec, event.Event{Type: "x"})
		if test.want == "" && err == nil {
			continue
		}
		if u, ok := decode.AsUndecodable(err); !ok || u.Reason != test.want {
			t.Errorf("% x: %v, want %s", test.value, err, test.want)
		}
	}
}

func TestNewNeedsBoth(t *testing.T) {
	t.Parallel()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(nil, catalogue); err == nil {
		t.Error("without a registry: accepted")
	}
	if _, err := New(oneSchema{}, nil); err == nil {
		t.Error("without a catalogue: accepted")
	}
}
