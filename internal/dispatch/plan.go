package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Plan returns the deliveries of the event: one for each rule that is for events of its time and whose filter lets it through. Where the
// body cannot be made now, be it that the rule's options cannot be read or that its filter or transform fails, the delivery has the event
// itself (delivery.FormatEvent): it is built when it is sent, by the rule of that moment. Rules that send the same share its bytes.
func Plan(m *payload.Message, rules []*rule.Rule) []delivery.Delivery {
	if len(rules) == 0 {
		return nil
	}
	b := builder{message: m}
	out := make([]delivery.Delivery, 0, len(rules))
	ev := &m.Event
	for _, r := range rules {
		if !r.Takes(ev.Time, m.Recorded) {
			continue
		}
		body, format, wanted, err := b.plan(r)
		if err != nil {
			body, format = b.shared(payload.ShapePlugin, delivery.FormatJSON), delivery.FormatEvent
		} else if !wanted {
			continue
		}
		out = append(out, delivery.Delivery{
			ID:   delivery.NewID(ev.Source, ev.ID, ev.Type, r.Kind, r.ID, r.Created),
			Kind: r.Kind, RuleID: r.ID, EventType: ev.Type, EventID: ev.ID, EventTime: ev.Time,
			Format: format, Body: body, Traceparent: ev.Traceparent,
		})
	}
	return out
}

// plan is build for an event that is not sent now.
func (b *builder) plan(r *rule.Rule) (body []byte, format delivery.Format, wanted bool, err error) {
	if r.Resting {
		return nil, 0, false, errResting
	}
	return b.build(r)
}

// renderError says of an error what failed.
type renderError struct {
	error

	what delivery.RenderFailure
}

func (e *renderError) Unwrap() error { return e.error }

// unbuilt returns what failed where Build returned err.
func renderFailure(err error) delivery.RenderFailure {
	if e, ok := errors.AsType[*renderError](err); ok {
		return e.what
	}
	return delivery.RenderFailure{Stage: delivery.StageRule}
}

// failed returns err as one of the expression at the stage. Good runs of other events may come meanwhile: then the failure seems to be
// later than it was, which ends no row too late.
func failed(stage delivery.Stage, p *expression.Program, err error) error {
	return &renderError{err, delivery.RenderFailure{Stage: stage, Runs: delivery.Runs{Counter: &p.Good, Good: p.Good.Load()}}}
}

// goodRuns returns the counter of an expression's good runs, nil where there is no expression.
func goodRuns(p *expression.Program) *atomic.Uint64 {
	if p == nil {
		return nil
	}
	return &p.Good
}

var errResting = errors.New("the rule is paused because its expressions fail")

// Build returns what the rule sends of the event; wanted is false where its filter leaves the event out. An error says which expression
// failed, and why. It may hold parts of the event: it must not be logged.
func Build(r *rule.Rule, m *payload.Message) (body []byte, format delivery.Format, wanted bool, err error) {
	b := builder{message: m}
	return b.build(r)
}

// builder makes the bodies of one event.
type builder struct {
	message *payload.Message
	input   *expression.Input
	bodies  [shapes][formats][]byte // those that are the same for all rules
}

const (
	shapes  = payload.ShapeStandard + 1
	formats = delivery.FormatCloudEvents + 1
)

func (b *builder) build(r *rule.Rule) (body []byte, format delivery.Format, wanted bool, err error) {
	if r.Unread {
		return nil, 0, false, errors.New("the options of the rule cannot be read")
	}
	if r.Filter != nil {
		// What expressions may take of the time is bounded by themselves.
		if wanted, err = r.Filter.Test(context.Background(), b.in()); err != nil {
			return nil, 0, false, failed(delivery.StageFilter, r.Filter, err)
		}
		r.Filter.Good.Add(1)
		if !wanted {
			return nil, 0, false, nil
		}
	}
	if r.Transform == nil {
		return b.shared(r.Shape, r.Format), r.Format, true, nil
	}
	if body, err = b.transform(r); err != nil {
		return nil, 0, false, failed(delivery.StageTransform, r.Transform, err)
	}
	r.Transform.Good.Add(1)
	return body, r.Format, true, nil
}

func (b *builder) transform(r *rule.Rule) ([]byte, error) {
	v, err := r.Transform.Apply(context.Background(), b.in())
	if err != nil {
		return nil, err
	}
	if r.Format == delivery.FormatForm && v.Kind() != payload.Object {
		return nil, errors.New("the transform returned no object, and form fields are made of one: make it {…}")
	}
	body := payload.Encode(b.message.Wrap(r.Shape, v), r.Format)
	if len(body) > expression.MaxOutput {
		return nil, fmt.Errorf("the transform makes a body of %d bytes: make it %d at most", len(body), expression.MaxOutput)
	}
	return body, nil
}

func (b *builder) in() *expression.Input {
	if b.input == nil {
		b.input = expression.NewInput(b.message)
	}
	return b.input
}

// shared returns the body that all rules of the shape and format without a transform send.
func (b *builder) shared(s payload.Shape, f delivery.Format) []byte {
	body := &b.bodies[s][f]
	switch {
	case *body != nil:
	case s == payload.ShapePlugin:
		*body = b.message.Body(f)
	default:
		*body = payload.Encode(b.message.Shaped(s), f)
	}
	return *body
}

// flightOverhead is what a delivery on its way costs in memory beside its body.
const flightOverhead = 640

// MemoryCost returns about how many bytes of memory the deliveries of one event, as Plan makes them, take on their way.
func MemoryCost(deliveries []delivery.Delivery) int64 {
	bytes := int64(len(deliveries)) * flightOverhead
	counted := make(map[*byte]bool) // two bodies are the same one where they begin at the same place
	for i := range deliveries {
		if body := deliveries[i].Body; len(body) > 0 && !counted[&body[0]] {
			counted[&body[0]] = true
			bytes += int64(len(body))
		}
	}
	return bytes
}
