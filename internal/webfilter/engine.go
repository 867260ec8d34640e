// Package webfilter calls the webfilter rows of a filter one after another and combines their
// answers like the openedx-webhooks plugin 22: data and exceptions are merged, the last row wins,
// and a status on which a row halts stops the chain.
//
// A chain ends within its deadline whatever its endpoints do. A row without an answer counts as a
// failed request, on which it may halt. An endpoint that gives no answers is not called for a
// while, with the same result. If the caller can wait, no row that waits for secrets is skipped.
//
// Unlike the plugin, it follows no redirects and reads at most 1 MiB of an answer.
package webfilter

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

// DefaultDeadline bounds a chain of calls: a learner is waiting for the page.
const DefaultDeadline = 2 * time.Second

// maxAnswer is how many bytes the body of a row's answer may have.
const maxAnswer = 1 << 20

// Rules are the rows as they are now.
type Rules interface {
	// Webfilters returns the rows of a filter to call, held ones included, in id order; the slice
	// must not be changed. The name is one of rule.FilterName, or an event's type.
	Webfilters(name string) []*rule.Webfilter
}

// Caller makes one request. An error is a *sender.CallError.
type Caller interface {
	Call(ctx context.Context, r *rule.Rule, id delivery.ID, format delivery.Format, body []byte, limit int) (sender.Answer, error)
}

// Options of New.
type Options struct {
	Rules      Rules                 // required
	Caller     Caller                // required; a *sender.Sender
	Deadline   time.Duration         // of all calls of a chain together, DefaultDeadline if zero
	Registerer prometheus.Registerer // gets the metrics; nil leaves them unregistered
}

// Engine calls filters. It is safe for concurrent use and holds no goroutine.
type Engine struct {
	options Options
	gates   gates
	metrics *metrics
}

// New returns an engine.
func New(options Options) (*Engine, error) {
	switch {
	case options.Rules == nil || options.Caller == nil:
		return nil, errors.New("webfilter: Rules or Caller is nil")
	case options.Deadline < 0:
		return nil, fmt.Errorf("webfilter: the deadline %s is negative: no row would ever be called", options.Deadline)
	case options.Deadline == 0:
		options.Deadline = DefaultDeadline
	}
	metrics, err := newMetrics(options.Registerer)
	if err != nil {
		return nil, fmt.Errorf("webfilter: %w", err)
	}
	return &Engine{options: options, metrics: metrics}, nil
}

// Outcome is what the rows of a filter said together.
type Outcome struct {
	// Data and Exceptions are Objects, merged from the answers; both are empty where a row halted.
	Data, Exceptions payload.Value
	Halt             *Halt         // set where a row stopped the chain
	Wait             bool          // a row waits for its secrets, the request may wait: none was called
	Calling          time.Duration // how long the answers took
}

// Halt is why a row stopped the chain.
type Halt struct {
	Row int32 // the id of the row
	// Message is the plugin's, for people. It may hold the row's whole URL and must not be logged.
	Message    string
	Cause      string // the same for logs: without any part of the URL
	RedirectTo string
	Status     int // of the answer, 0 where there was none
}

// Run calls the rows of the request's filter in order. It returns an error only when ctx ends.
func (e *Engine) Run(ctx context.Context, q *Request) (*Outcome, error) {
	none := payload.ObjectValue(nil, nil)
	out := &Outcome{Data: none, Exceptions: none}
	filters := e.options.Rules.Webfilters(q.Filter)
	if len(filters) == 0 {
		return out, nil
	}
	if q.MayWait && slices.ContainsFunc(filters, func(f *rule.Webfilter) bool { return f.Waits }) {
		out.Wait = true
		return out, nil
	}
	chain, cancel := context.WithTimeout(ctx, e.options.Deadline)
	defer cancel()
	body := bodies{request: q}
	var said merged
	for _, f := range filters {
		began := time.Now()
		answer, result := e.call(chain, f, body.in(f.Format))
		out.Calling += time.Since(began)
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("call the rows of a webfilter: %w", err)
		}
		if out.Halt = halt(f, q, answer, result); out.Halt != nil {
			return out, nil
		}
		if answer != nil {
			said.add(f, answer)
		}
	}
	out.Data, out.Exceptions = said.data.Object(), said.exceptions.Object()
	return out, nil
}

// call calls a row and returns its answer, or why there is none. chain ends with the deadline.
func (e *Engine) call(chain context.Context, f *rule.Webfilter, body []byte) (*sender.Answer, outcome) {
	var leave func(delivery.Signal)
	var refused outcome
	switch {
	case f.Hold != "":
		refused = outcomeHeld
	case chain.Err() != nil:
		refused = outcomeDeadline
	default:
		leave, refused = e.gates.of(f.ID, f.URL).enter()
	}
	if refused != "" {
		e.metrics.count(refused)
		return nil, refused
	}
	signal := delivery.SignalNone
	defer func() { leave(signal) }()
	var id delivery.ID
	_, _ = rand.Read(id[:]) // it never fails; see crypto/rand
	began := time.Now()
	answer, err := e.options.Caller.Call(chain, f.Rule, id, f.Format, body, maxAnswer)
	took := time.Since(began)
	if err == nil {
		signal = delivery.SignalHealthy
		result := ofStatus(answer.Status)
		e.metrics.called(result, took)
		return &answer, result
	}
	class := delivery.ClassOther
	if failed, ok := errors.AsType[*sender.CallError](err); ok {
		class = failed.Class
	}
	signal = (&delivery.Attempt{Class: class}).Signal()
	// Earlier rows may have used up the time.
	if chain.Err() != nil && took < e.options.Deadline/2 {
		signal = delivery.SignalNone
	}
	e.metrics.called(outcome(class), took)
	return nil, outcome(class)
}

// halt returns how a row stops the chain, or nil. For a status the message is the plugin's.
func halt(f *rule.Webfilter, q *Request, answer *sender.Answer, result outcome) *Halt {
	redirect, flag := "", ""
	switch {
	case !q.Halting:
		return nil
	case answer == nil && f.HaltOnRequestException:
		return &Halt{
			Row: f.ID, RedirectTo: f.RedirectOnRequestException,
			Message: fmt.Sprintf("Request of webfilter %d after webhook event %s failed: %s",
				f.ID, f.EventType, cmp.Or(failures[result], failures[outcomeOther])),
			Cause: fmt.Sprintf("webfilter %d gave no answer: %s (halt_on_request_exception)", f.ID, result),
		}
	case answer == nil:
		return nil
	case answer.Status/100 == 4 && f.HaltOn4xx:
		redirect, flag = f.RedirectOn4xx, "halt_on_4xx"
	case answer.Status/100 == 5 && f.HaltOn5xx:
		redirect, flag = f.RedirectOn5xx, "halt_on_5xx"
	default:
		return nil
	}
	return &Halt{
		Row: f.ID, RedirectTo: redirect, Status: answer.Status,
		Message: fmt.Sprintf("Request to %s after webhook event %s returned status code %d (%s)",
			f.URL, f.EventType, answer.Status, answer.Reason),
		Cause: fmt.Sprintf("webfilter %d answered %d (%s)", f.ID, answer.Status, flag),
	}
}
