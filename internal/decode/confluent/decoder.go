// Package confluent decodes records in the wire format of Confluent's serialisers: a zero byte, the
// id of the writer's schema in a registry, and the Avro value. It also holds that registry's
// client: while the registry is away, a call waits for as long as its context lasts.
package confluent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/decode"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Registry returns writer schemas by id.
type Registry interface {
	// Schema returns the schema with the id: at once if it is known, else it may wait. The error is
	// a *decode.Undecodable, or says that ctx has ended.
	Schema(ctx context.Context, id uint32) (*decode.Schema, error)
}

// Decoder is a decode.Decoder.
type Decoder struct {
	*decode.Reader
	registry Registry
}

// New returns a decoder. It needs both: the registry for values, the catalogue for events.
func New(registry Registry, catalogue *schema.Catalogue) (*Decoder, error) {
	if registry == nil {
		return nil, errors.New("new decoder: a registry is needed")
	}
	reader, err := decode.NewReader(catalogue)
	if err != nil {
		return nil, err
	}
	return &Decoder{Reader: reader, registry: registry}, nil
}

// prefixSize is the size of the zero byte and the schema id, four bytes big-endian.
const prefixSize = 5

// Message implements decode.Decoder.
func (d *Decoder) Message(ctx context.Context, rec *bus.Record, ev event.Event) (*payload.Message, error) {
	if rec.Value == nil {
		return nil, decode.NewUndecodable(decode.ReasonNullValue, "")
	}
	if len(rec.Value) < prefixSize || rec.Value[0] != 0 {
		detail := fmt.Sprintf("a value of %d bytes does not begin with a zero byte and a schema id", len(rec.Value))
		return nil, decode.NewUndecodable(decode.ReasonBadMagic, detail)
	}
	id := binary.BigEndian.Uint32(rec.Value[1:])
	writer, err := d.registry.Schema(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("schema %d: %w", id, err)
	}
	return d.Data(writer, rec.Value[prefixSize:], rec, ev)
}
