// Package decode turns records of the bus into events: the envelope from the headers, the data from
// an Avro value and the schema that its writer used.
//
// It holds what all buses have in common. Each way to get the schema has a package of its own that
// implements Decoder, such as decode/confluent, which asks a registry for it.
//
// The order of fields and map entries, and the values, stay as they are on the wire. A record that
// can never be read gives an *Undecodable. No input makes it panic, and memory stays in proportion
// to the record. The package does not know which events are wanted or what happens to the others.
package decode

import (
	"context"
	"errors"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Decoder reads the records of one bus. It is safe for concurrent use.
type Decoder interface {
	// Envelope reads the headers of rec and does not touch its value. The error is an *Undecodable.
	Envelope(rec *bus.Record) (event.Event, error)
	// Message reads the value of rec, whose envelope is ev. It waits while something that it needs
	// cannot be reached. The error is an *Undecodable, or says that ctx ended meanwhile.
	Message(ctx context.Context, rec *bus.Record, ev event.Event) (*payload.Message, error)
}

// Reader is the part of a Decoder that needs no schema source. It is safe for concurrent use.
type Reader struct {
	catalogue *schema.Catalogue
	version   []int64 // the catalogue's, shared by events without the header
	release   string
}

// NewReader returns a reader that knows the events of a catalogue.
func NewReader(catalogue *schema.Catalogue) (*Reader, error) {
	if catalogue == nil {
		return nil, errors.New("new decoder: a catalogue is needed")
	}
	return &Reader{catalogue: catalogue, version: catalogue.Version(), release: catalogue.Release()}, nil
}

// Data reads a bare Avro value of rec, whose envelope is ev. The error is an *Undecodable.
func (r *Reader) Data(writer *Schema, value []byte, rec *bus.Record, ev event.Event) (*payload.Message, error) {
	p, err := writer.plan(r.catalogue, ev.Type)
	if err != nil {
		return nil, err
	}
	data, err := p.read(value)
	if err != nil {
		return nil, err
	}
	return &payload.Message{Event: ev, Data: data, Recorded: rec.Time}, nil
}
