// Package decode turns records of the bus into events: the envelope from the headers, the data from the Avro value with
// the schema that its writer registered.
//
// Field order, map order and values stay as they are on the wire. A record that can never be read gives an *Undecodable;
// a registry that is away makes the call wait, for as long as its context lasts. Whatever bytes come, nothing panics, and
// memory stays in proportion to the record. Which events are wanted, and what happens to the others, is not known here.
package decode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Registry gives writer schemas by id.
type Registry interface {
	// Schema returns the schema with the id. It waits while the registry cannot be asked and returns an error that is no
	// *Undecodable only when ctx has ended. It is called for every record, so known ids must be answered from memory.
	Schema(ctx context.Context, id uint32) (*Schema, error)
}

// Decoder reads records. It is safe for concurrent use.
type Decoder struct {
	registry  Registry
	catalogue *schema.Catalogue
	version   []int64 // the catalogue's, shared by events without the header
	release   string
}

// New returns a decoder. Both arguments are needed: without the registry no value, without the catalogue no event can be read.
func New(registry Registry, catalogue *schema.Catalogue) (*Decoder, error) {
	if registry == nil || catalogue == nil {
		return nil, errors.New("new decoder: a registry and a catalogue are needed")
	}
	return &Decoder{registry: registry, catalogue: catalogue, version: catalogue.Version(), release: catalogue.Release()}, nil
}

// prefixSize is the Confluent wire format's: a zero byte and the schema id, four bytes big-endian.
const prefixSize = 5

// Message reads the value of rec, whose envelope is ev. The error is an *Undecodable, or says that ctx ended while the
// registry was away.
func (d *Decoder) Message(ctx context.Context, rec *bus.Record, ev event.Event) (*payload.Message, error) {
	if rec.Value == nil {
		return nil, undecodable(ReasonNullValue, "")
	}
	if len(rec.Value) < prefixSize || rec.Value[0] != 0 {
		detail := fmt.Sprintf("a value of %d bytes does not begin with a zero byte and a schema id", len(rec.Value))
		return nil, undecodable(ReasonBadMagic, detail)
	}
	id := binary.BigEndian.Uint32(rec.Value[1:])
	writer, err := d.registry.Schema(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("schema %d: %w", id, err)
	}
	m, err := d.message(writer, rec.Value[prefixSize:], ev)
	if err != nil {
		return nil, err
	}
	m.Recorded = rec.Time
	return m, nil
}

// message reads the Avro value alone.
func (d *Decoder) message(writer *Schema, value []byte, ev event.Event) (*payload.Message, error) {
	p, err := writer.plan(d.catalogue, ev.Type)
	if err != nil {
		return nil, err
	}
	data, err := p.read(value)
	if err != nil {
		return nil, err
	}
	return &payload.Message{Event: ev, Data: data}, nil
}
