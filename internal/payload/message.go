package payload

import "github.com/openedx-webhooks/webhook-dispatcher/pkg/event"

// Message is an event with its data, ready to be turned into bodies. It is immutable.
type Message struct {
	// Event is the envelope.
	Event event.Event
	// Data is an Object with one entry for each argument of the signal (on the bus exactly one): the key is the class path
	// that the plugin would name, such as "openedx_events.learning.data.UserData", the value the data with datetimes
	// already spelled as Python's str() does. Nothing has been redacted yet.
	Data Value
}
