// Package event holds the envelope of an Open edX event: what the platform says about an event beside its data.
//
// The envelope is the same whatever bus carried it. The data itself, the way it is encoded and the place it came from
// are not here.
package event

import (
	"strings"
	"time"
)

// Event is the envelope of one event. Once built it is never changed, so it may be read from any goroutine.
type Event struct {
	// Type is the event type, such as "org.openedx.learning.course.enrollment.created.v1" (CloudEvents: type).
	Type string
	// ID identifies the event within its source (CloudEvents: id); Open edX sends a UUID.
	ID string
	// Source names the service that sent the event, such as "openedx/lms/web" (CloudEvents: source).
	Source string
	// SourceHost is the name of the machine that sent the event.
	SourceHost string
	// Time is the moment of the event in UTC, exact to the microsecond.
	Time time.Time
	// MinorVersion is the minor version of the event type, 0 where unknown.
	MinorVersion int64
	// SourceLib is the version of openedx-events that sent the event, such as {11, 2, 0}.
	SourceLib []int64
	// Traceparent is the W3C trace context that came with the event, empty where there was none or it was malformed.
	Traceparent string
}

// ValidTraceparent reports whether s is a traceparent of the W3C Trace Context: two digits of version, 32 of trace, 16 of parent, two of
// flags. What a later version may add after them is not known here.
func ValidTraceparent(s string) bool {
	if len(s) != 2+1+32+1+16+1+2 {
		return false
	}
	for i, c := range []byte(s) {
		if i == 2 || i == 35 || i == 52 {
			if c != '-' {
				return false
			}
		} else if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return s[:2] != "ff" && strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}
