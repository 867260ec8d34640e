package dispatch

import (
	"errors"
	"fmt"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/plan"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// send makes one attempt of a delivery. If the delivery holds the event itself, the current rule
// renders it first; the body is not kept. The render failure applies only to attempts of
// ClassExpression.
func (d *Dispatcher) send(r *rule.Rule, out *delivery.Delivery, number int) (delivery.Attempt, delivery.RenderFailure) {
	if out.Format != delivery.FormatEvent {
		return d.Sender.Send(d.workers.Context, r, out, number), delivery.RenderFailure{}
	}
	begin := time.Now()
	ended := func(class delivery.ErrorClass, text string) delivery.Attempt {
		return delivery.Attempt{
			ID: out.ID, Kind: out.Kind, RuleID: out.RuleID, EventType: out.EventType, Number: number, At: begin, Duration: time.Since(begin),
			Class: class, Response: []byte(text), Final: true,
		}
	}
	m, err := payload.ParseMessage(out.Body)
	if err != nil {
		return ended(delivery.ClassExpression, fmt.Sprintf("the stored event cannot be read: %v", err)), plan.RenderFailure(err)
	}
	m.Event.Traceparent = out.Traceparent
	body, format, wanted, err := plan.Build(r, m)
	if errors.Is(err, expression.ErrTooLong) { // once more: the processor may have been busy
		body, format, wanted, err = plan.Build(r, m)
	}
	switch {
	case err != nil:
		return ended(delivery.ClassExpression, err.Error()), plan.RenderFailure(err)
	case !wanted:
		return ended(delivery.ClassFiltered, ""), delivery.RenderFailure{}
	}
	built := *out
	built.Body, built.Format = body, format
	return d.Sender.Send(d.workers.Context, r, &built, number), delivery.RenderFailure{}
}
