package dispatch

import (
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Plan returns one delivery of the event for each rule. Rules of one format share their body.
func Plan(m *payload.Message, rules []*rule.Rule) []delivery.Delivery {
	if len(rules) == 0 {
		return nil
	}
	var bodies [3][]byte // by format
	out := make([]delivery.Delivery, len(rules))
	ev := &m.Event
	for i, r := range rules {
		if bodies[r.Format] == nil {
			bodies[r.Format] = m.Body(r.Format)
		}
		out[i] = delivery.Delivery{
			ID:   delivery.NewID(ev.Source, ev.ID, ev.Type, r.Kind, r.ID, r.Created),
			Kind: r.Kind, RuleID: r.ID, EventType: ev.Type, EventID: ev.ID, EventTime: ev.Time,
			Format: r.Format, Body: bodies[r.Format], Traceparent: ev.Traceparent,
		}
	}
	return out
}

// flightOverhead is what a delivery on its way costs in memory beside its body.
const flightOverhead = 640

// Footprint returns about how many bytes of memory the deliveries of one event, as Plan makes them, take on their way.
func Footprint(deliveries []delivery.Delivery) int64 {
	bytes := int64(len(deliveries)) * flightOverhead
	var counted [3]bool // by format: these share their body
	for i := range deliveries {
		if d := &deliveries[i]; !counted[d.Format] {
			counted[d.Format] = true
			bytes += int64(len(d.Body))
		}
	}
	return bytes
}
