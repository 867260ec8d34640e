package payload

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// ParseMessage reads an event from the JSON body that a plain rule sends. Bodies made from the
// result equal those of the original event, byte for byte in each shape and format; only the trace
// context is missing and left to the caller. Errors never quote the body.
func ParseMessage(body []byte) (*Message, error) {
	return read(body, event.Event{}, complete)
}

// ReadMessage is ParseMessage for hand-written bodies: defaults stand in for unusable metadata.
func ReadMessage(body []byte, defaults event.Event) (*Message, error) {
	return read(body, defaults, func(Value) error { return nil })
}

func read(body []byte, defaults event.Event, check func(metadata Value) error) (*Message, error) {
	document, err := ParseJSON(body)
	if err != nil {
		return nil, err
	}
	if document.kind != Object {
		return nil, errors.New(`write an object: {"<class path>": {…}, "event_metadata": {…}}`)
	}
	var data Entries
	for i, item := range document.list() {
		if key := document.Key(i); key != MetadataKey {
			data.Set(key, item)
		}
	}
	m := &Message{Event: defaults, Data: data.Object()}
	metadata, _ := document.Get(MetadataKey)
	if err = check(metadata); err == nil {
		err = readMetadata(&m.Event, metadata)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", MetadataKey, err)
	}
	return m, nil
}

// metadataKinds are the kinds of metadataKeys' values.
var metadataKinds = [...]Kind{String, String, Int, String, String, String, List}

// complete returns an error that names the first metadata that is missing or of the wrong type.
func complete(metadata Value) error {
	for i, key := range metadataKeys {
		if v, ok := metadata.Get(key); !ok || v.kind != metadataKinds[i] {
			return fmt.Errorf("%s is missing or of the wrong type", key)
		}
	}
	library, _ := metadata.Get("sourcelib")
	for _, n := range library.list() {
		if n.kind != Int {
			return errors.New("sourcelib contains something other than 64-bit integers")
		}
	}
	return nil
}

// readMetadata reads the metadata into e, but not what is missing or of the wrong type.
func readMetadata(e *event.Event, metadata Value) error {
	for key, field := range map[string]*string{"event_type": &e.Type, "id": &e.ID, "source": &e.Source, "sourcehost": &e.SourceHost} {
		if v, _ := metadata.Get(key); v.kind == String {
			*field = v.text
		}
	}
	if v, _ := metadata.Get("minorversion"); v.kind == Int {
		e.MinorVersion = v.Int()
	}
	if v, _ := metadata.Get("sourcelib"); v.kind == List {
		e.SourceLib = nil
		for _, n := range v.list() {
			e.SourceLib = append(e.SourceLib, n.Int())
		}
	}
	if v, ok := metadata.Get("time"); ok {
		at, err := time.Parse("2006-01-02T15:04:05.999999999Z07:00", strings.Replace(v.text, " ", "T", 1))
		if err != nil {
			return errors.New(`invalid time; write it like "2026-01-02 03:04:05.678901+00:00"`)
		}
		e.Time = at.UTC()
	}
	return nil
}
