package decode

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/bus"
	"github.com/openedx-webhooks/webhook-dispatcher/pkg/event"
)

// The headers of the envelope, in the order in which the platform writes them.
const (
	headerType = iota
	headerID
	headerSource
	headerTime
	headerMinorVersion
	headerSourceHost
	headerSourceLib
	headerCount
)

var headerNames = [headerCount]string{"ce_type", "ce_id", "ce_source", "ce_time", "ce_minorversion", "sourcehost", "sourcelib"}

// headerTraceparent does not come from the platform, but a tracing library may add it.
const headerTraceparent = "traceparent"

// Bounds of the headers of the envelope, in bytes. Type and id must fit their columns.
const (
	maxHeader = 1024
	maxKey    = 191
)

// Envelope implements Decoder. Missing headers get defaults: the record's time, minor version 0,
// empty source and host, the catalogue's version of openedx-events.
func (r *Reader) Envelope(rec *bus.Record) (event.Event, error) {
	var texts [headerCount]string
	var seen [headerCount]bool
	var traceparent string
	traces := 0
	for i := range rec.Headers {
		h := &rec.Headers[i]
		if h.Key == headerTraceparent {
			traceparent = string(h.Value)
			traces++
			continue
		}
		at := slices.Index(headerNames[:], h.Key)
		if at < 0 {
			continue
		}
		limit := maxHeader
		if at == headerType || at == headerID {
			limit = maxKey
		}
		switch {
		case seen[at]:
			return event.Event{}, NewUndecodable(ReasonRepeatedHeader, "header "+h.Key+" appears more than once")
		case len(h.Value) > limit:
			return event.Event{}, NewUndecodable(ReasonBadHeader, fmt.Sprintf("header %s is longer than %d bytes", h.Key, limit))
		case !utf8.Valid(h.Value):
			return event.Event{}, NewUndecodable(ReasonBadHeader, "header "+h.Key+" is not UTF-8")
		}
		seen[at], texts[at] = true, string(h.Value)
	}
	switch {
	case texts[headerType] == "":
		return event.Event{}, NewUndecodable(ReasonNoType, "header ce_type is missing")
	case texts[headerID] == "":
		return event.Event{}, NewUndecodable(ReasonNoID, "header ce_id is missing")
	}
	ev := event.Event{
		Type: texts[headerType], ID: texts[headerID], Source: texts[headerSource], SourceHost: texts[headerSourceHost],
		Time: rec.Time.UTC().Truncate(time.Microsecond), SourceLib: r.version,
	}
	if text := texts[headerTime]; text != "" {
		at, ok := parseTime(text)
		if !ok {
			return event.Event{}, NewUndecodable(ReasonBadHeader, "header ce_time is not an ISO 8601 time with an offset")
		}
		ev.Time = at
	}
	if text := texts[headerMinorVersion]; text != "" {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return event.Event{}, NewUndecodable(ReasonBadHeader, "header ce_minorversion is not an integer")
		}
		ev.MinorVersion = n
	}
	if text := texts[headerSourceLib]; text != "" {
		lib, ok := r.sourceLib(text)
		if !ok {
			return event.Event{}, NewUndecodable(ReasonBadHeader, "header sourcelib is not a version: want integers joined by dots")
		}
		ev.SourceLib = lib
	}
	if traces == 1 && event.ValidTraceparent(traceparent) {
		ev.Traceparent = traceparent
	}
	return ev, nil
}

// sourceLib reads a dotted version. The one of the catalogue, by far the most frequent, is shared.
func (r *Reader) sourceLib(text string) ([]int64, bool) {
	if text == r.release {
		return r.version, true
	}
	numbers := make([]int64, 0, 3)
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseInt(strings.TrimSpace(part), 10, 64)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}
