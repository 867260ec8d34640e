// Package plan turns an event into deliveries: it applies each rule's filter, transform and shape.
//
// Rules that send the same body share its bytes. An event whose body cannot be rendered now is kept
// and rendered again when it is sent. The package neither chooses rules nor sends or stores
// anything.
package plan

import (
	"context"
	"errors"
	"fmt"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/expression"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Deliveries returns the deliveries of an event, one for each rule that takes events of its time
// and whose filter matches. If the body cannot be rendered (the rule's options cannot be read, or
// its filter or transform fails) the delivery holds the event (delivery.FormatEvent), and the rule
// of that moment renders it when it is sent.
func Deliveries(m *payload.Message, rules []*rule.Rule) []delivery.Delivery {
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

// Build returns what the rule sends for the event; wanted is false if its filter does not match.
// Errors (see RenderFailure) may contain parts of the event: they must not be logged.
func Build(r *rule.Rule, m *payload.Message) (
	body []byte, format delivery.Format, wanted bool, err error,
) {
	b := builder{message: m}
	return b.build(r)
}

// RenderFailure returns what failed when Build returned err.
func RenderFailure(err error) delivery.RenderFailure {
	if e, ok := errors.AsType[*renderError](err); ok {
		return e.what
	}
	return delivery.RenderFailure{Stage: delivery.StageRule}
}

// renderError is an error with what failed.
type renderError struct {
	error

	what delivery.RenderFailure
}

func (e *renderError) Unwrap() error { return e.error }

// failed wraps an error of the stage's expression. If another event renders at this moment, the
// failure seems later than it was, so no streak ends too late.
func failed(stage delivery.Stage, p *expression.Program, err error) error {
	runs := delivery.Runs{Counter: &p.Good, Good: p.Good.Load()}
	tooLong := errors.Is(err, expression.ErrTooLong)
	return &renderError{err, delivery.RenderFailure{Stage: stage, Runs: runs, TooLong: tooLong}}
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

var errResting = errors.New("the rule is paused because its expressions fail")

// plan is build, but does not run the expressions of a rule that is paused because they fail.
func (b *builder) plan(r *rule.Rule) (
	body []byte, format delivery.Format, wanted bool, err error,
) {
	if r.Resting {
		return nil, 0, false, errResting
	}
	return b.build(r)
}

func (b *builder) build(r *rule.Rule) (
	body []byte, format delivery.Format, wanted bool, err error,
) {
	if r.Unread {
		return nil, 0, false, errors.New("the options of the rule cannot be read")
	}
	if r.Filter != nil {
		// Expressions bound their own time.
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
		return nil, errors.New(
			"the transform must return an object, of which form fields are made: make it {…}")
	}
	body := payload.Encode(b.message.Wrap(r.Shape, v), r.Format)
	if len(body) > expression.MaxOutput {
		return nil, fmt.Errorf("the transform makes a body of %d bytes: the limit is %d",
			len(body), expression.MaxOutput)
	}
	return body, nil
}

func (b *builder) in() *expression.Input {
	if b.input == nil {
		b.input = expression.NewInput(b.message)
	}
	return b.input
}

// shared returns the body of all rules with the shape and format and without a transform.
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

// overhead is the memory of a delivery in flight, without its body, in bytes.
const overhead = 640

// MemoryCost returns the approximate memory in bytes of an event's deliveries, as Deliveries
// returns them, while in flight.
func MemoryCost(deliveries []delivery.Delivery) int64 {
	bytes := int64(len(deliveries)) * overhead
	counted := make(map[*byte]bool) // by the first byte of shared bodies
	for i := range deliveries {
		if body := deliveries[i].Body; len(body) > 0 && !counted[&body[0]] {
			counted[&body[0]] = true
			bytes += int64(len(body))
		}
	}
	return bytes
}
