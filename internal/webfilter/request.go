package webfilter

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
)

// Request is what the rows of a filter are called with.
type Request struct {
	Filter  string // the name of the filter, as rule.FilterName has it, or the type of an event
	Halting bool   // a row may halt; see Halts
	// MayWait is set where nobody waits for the answer and Run can be asked again later. A row that
	// waits for its secrets is not called then, nor is any other: see Outcome.Wait.
	MayWait bool
	Format  delivery.Format // of Body: JSON or form fields; rows of this format get these bytes
	Body    []byte
	// Payload is the same as an Object. Rows of the other format get it encoded anew: form fields
	// made of JSON are the plugin's own bytes, JSON made of form fields is a flat object of texts.
	Payload payload.Value
}

// ParseRequest reads the plugin's request for one of its filters. Errors hold nothing of the body.
func ParseRequest(filter, contentType string, body []byte) (*Request, error) {
	r := &Request{Filter: filter, Halting: Halts(filter), Format: delivery.FormatJSON, Body: body}
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return nil, errors.New("the Content-Type is missing or cannot be read: send application/json or application/x-www-form-urlencoded")
	case media == delivery.FormatForm.ContentType():
		r.Format = delivery.FormatForm
		r.Payload, err = parseForm(string(body))
	case media == delivery.FormatJSON.ContentType():
		if r.Payload, err = payload.ParseJSON(body); err == nil && r.Payload.Kind() != payload.Object {
			err = errors.New("the JSON is not an object")
		}
	default:
		err = errors.New("the Content-Type is neither application/json nor application/x-www-form-urlencoded")
	}
	if err != nil {
		return nil, fmt.Errorf("the payload of a webfilter: %w", err)
	}
	return r, nil
}

// parseForm reads form fields into an Object of Strings, in their order, which net/url loses.
func parseForm(text string) (payload.Value, error) {
	var fields payload.Entries
	for field := range strings.SplitSeq(text, "&") {
		if field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return payload.Value{}, errors.New("a form field is not encoded as one")
		}
		fields.Set(name, payload.StringValue(value))
	}
	return fields.Object(), nil
}

// bodies has a request's body in both formats, each made once.
type bodies struct {
	request *Request
	other   []byte
}

func (b *bodies) in(format delivery.Format) []byte {
	if format == b.request.Format {
		return b.request.Body
	}
	if b.other == nil {
		b.other = payload.Encode(b.request.Payload, format)
	}
	return b.other
}
