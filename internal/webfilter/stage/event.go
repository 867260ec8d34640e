package stage

import (
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/webfilter"
)

// eventOf returns the row of the event, without its body, in the lane of a webfilter. Its ID does not
// depend on the lane: an event that is read again has the same ID even if its webfilters have
// changed. Its time is that of its record, which is kept nowhere else; the event's own is in the body.
func eventOf(m *payload.Message, filter int32) delivery.Delivery {
	ev := &m.Event
	return delivery.Delivery{
		ID:   delivery.NewID(ev.Source, ev.ID, ev.Type, delivery.KindEvent, 0, time.Time{}),
		Kind: delivery.KindEvent, RuleID: filter, EventType: ev.Type, EventID: ev.ID, EventTime: m.Recorded,
		Format: delivery.FormatEvent, Traceparent: ev.Traceparent,
	}
}

// request returns what the event's webfilters are called with: the body that a plain webhook rule
// sends.
func request(m *payload.Message) *webfilter.Request {
	whole := m.Payload()
	return &webfilter.Request{
		Filter: m.Event.Type, Halting: true, MayWait: true,
		Format: delivery.FormatJSON, Body: payload.Encode(whole, delivery.FormatJSON), Payload: whole,
	}
}

// stopped reports whether the event ends here. On the bus an exception means a halt, because there
// is no caller to raise it to.
func stopped(outcome *webfilter.Outcome) bool {
	return outcome.Halt != nil || outcome.Exceptions.Len() > 0
}

// apply merges the webfilters' answers into the event's data as the plugin does: it replaces the
// values of top-level keys. Webfilters cannot change an event's metadata.
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
