package stage

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// eventOf returns the event as a row has it, without its body, in the lane of a filter. Its ID does
// not depend on the lane: an event that is read again has it, whichever filters there are by then.
// Its time is that of its record, which is nowhere else; the event's own is in the body.
func eventOf(m *payload.Message, filter int32) delivery.Delivery {
	ev := &m.Event
	return delivery.Delivery{
		ID:   delivery.NewID(ev.Source, ev.ID, ev.Type, delivery.KindEvent, 0, time.Time{}),
		Kind: delivery.KindEvent, RuleID: filter, EventType: ev.Type, EventID: ev.ID, EventTime: m.Recorded,
		Format: delivery.FormatEvent, Traceparent: ev.Traceparent,
	}
}

// request is what webfilters are called with: the body that a plain webhook rule sends.
func request(m *payload.Message) *webfilter.Request {
	whole := m.Payload()
	return &webfilter.Request{
		Filter: m.Event.Type, Halting: true, MayWait: true,
		Format: delivery.FormatJSON, Body: payload.Encode(whole, delivery.FormatJSON), Payload: whole,
	}
}

// stopped tells whether the event ends here. On the bus an exception is a halt: nobody raises it.
func stopped(outcome *webfilter.Outcome) bool {
	return outcome.Halt != nil || outcome.Exceptions.Len() > 0
}

// apply merges what the filters answered into the event's data, as the plugin merges: key by key at
// the top, the whole value replaced. The metadata of an event is not theirs to change.
func apply(m *payload.Message, outcome *webfilter.Outcome) *payload.Message {
	if outcome.Data.Len() == 0 {
		return m
	}
	var data payload.Entries
	for i := range m.Data.Len() {
		data.Set(m.Data.Key(i), m.Data.Item(i))
	}
	for i := range outcome.Data.Len() {
		if key := outcome.Data.Key(i); key != payload.MetadataKey {
			data.Set(key, outcome.Data.Item(i))
		}
	}
	return &payload.Message{Event: m.Event, Data: data.Object(), Recorded: m.Recorded}
}
