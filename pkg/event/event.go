// Package event holds the envelope of an Open edX event: all that the platform says about an event,
// except its data. It is the same on every bus.
package event

import (
	"strings"
	"time"
)

// Event is the envelope of one event. It is immutable.
type Event struct {
	// Type is the event type, such as "org.openedx.learning.course.enrollment.created.v1".
	Type string
	// ID identifies the event within its source; Open edX sends a UUID.
	ID string
	// Source is the service that sent the event, such as "openedx/lms/web".
	Source string
	// SourceHost is the name of the machine that sent the event.
	SourceHost string
	// Time is the time of the event in UTC, to the microsecond.
	Time time.Time
	// MinorVersion is the minor version of the event type, 0 if unknown.
	MinorVersion int64
	// SourceLib is the sender's version of openedx-events, such as {11, 2, 0}.
	SourceLib []int64
	// Traceparent is the event's W3C trace context, empty if it is missing or malformed.
	Traceparent string
}

// ValidTraceparent reports whether s is a W3C traceparent: 2 hexadecimal digits of version, 32 of
// trace, 16 of parent, 2 of flags. Additions of later versions are not accepted.
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
