package sender

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// Answer is what an endpoint answered to Call.
type Answer struct {
	// Status is 200 or more.
	Status int
	// Reason is the phrase behind the status as it was on the wire, "" where there was none.
	Reason string
	// ContentType is the value of that header.
	ContentType string
	// Body is the whole body, as it came.
	Body []byte
}

// CallError says why there is no answer. Its text may be logged and shown: it holds nothing of the URL, the address or the answer.
type CallError struct {
	Class delivery.ErrorClass
	// Detail says more than the class, "" where nothing is known.
	Detail string
	// TokenServer is scheme and host of the authorization server if it is what failed, "" where it is not. It is not part of the text.
	TokenServer string
}

func (e *CallError) Error() string {
	if e.Detail == "" {
		return "no answer: " + string(e.Class)
	}
	return "no answer: " + string(e.Class) + ": " + e.Detail
}

// callError makes the error of an attempt that a.Class ended.
func callError(r *rule.Rule, a *delivery.Attempt, cause error) *CallError {
	e := &CallError{Class: a.Class, Detail: describe(cause)}
	if _, ok := errors.AsType[*tokenError](cause); ok {
		if u, err := url.Parse(r.Access.OAuth2.TokenURL); err == nil {
			e.TokenServer = u.Scheme + "://" + u.Host
		}
	}
	return e
}

// Try is Send for somebody who watches: the error, a *CallError, is what stands behind the attempt's class, nil where it has none.
func (s *Sender) Try(ctx context.Context, r *rule.Rule, d *delivery.Delivery) (delivery.Attempt, error) {
	a, cause := s.attempt(ctx, r, d, 1)
	if a.Class == "" {
		return a, nil
	}
	return a, callError(r, &a, cause)
}

// errTooLong has the class protocol: more than the limits allow.
var errTooLong = errors.New("the answer is longer than may be read")

// Call makes one request to the endpoint of r and returns the answer, whatever its status; a redirect is an answer as well. The request is
// made as Send makes it, with the same guard, headers, credentials, signature and deadline. An answer with more than limit bytes is none.
//
// The error is a *CallError; cancelling ctx gives it the class cancelled, its deadline the class timeout. Failures are logged as those
// of Send, statuses are not: whoever calls decides what they mean. Nothing is counted here.
func (s *Sender) Call(
	ctx context.Context, r *rule.Rule, id delivery.ID, format delivery.Format, body []byte, limit int,
) (Answer, error) {
	d := delivery.Delivery{ID: id, Kind: r.Kind, RuleID: r.ID, EventType: r.EventType, Format: format, Body: body}
	a := delivery.Attempt{ID: id, Kind: r.Kind, RuleID: r.ID, EventType: r.EventType, Number: 1, At: s.options.Now()}
	answer, location, err := s.call(ctx, r, &d, &a, limit)
	a.Duration = s.options.Now().Sub(a.At)
	switch {
	case err != nil:
		s.attempts.record(ctx, r, &a, "", err)
		return Answer{}, callError(r, &a, err)
	case a.Status <= 399 && a.Status >= 300:
		s.attempts.record(ctx, r, &a, location, nil)
	default:
		s.attempts.succeeded(ctx, r, &a)
	}
	return answer, nil
}

// call sends the request and reads the whole answer. It returns where a redirect leads. Of a it sets what came of the request.
func (s *Sender) call(
	ctx context.Context, r *rule.Rule, d *delivery.Delivery, a *delivery.Attempt, limit int,
) (answer Answer, location string, err error) {
	exchange, cancel := context.WithTimeout(ctx, s.timeout(r))
	defer cancel()
	t := s.targets.get(r.URL, s.options.Guard)
	response, err := s.answer(ctx, exchange, t, r, d, a)
	if err != nil {
		return Answer{}, "", err
	}
	body, err := readAll(response, limit)
	switch {
	case errors.Is(err, errTooLong):
		a.Class = delivery.ClassProtocol
	case err != nil:
		a.Class = classify(ctx, exchange, err)
	default:
		if response.StatusCode <= 399 && response.StatusCode >= 300 {
			location = t.redirect(response.Header.Get(keptLocation))
		}
		return Answer{
			Status: response.StatusCode, Reason: reason(response.Status), ContentType: response.Header.Get("Content-Type"), Body: body,
		}, location, nil
	}
	return Answer{}, "", err
}

// readAll reads a body of limit bytes at most. One that is longer is not read to its end, and its connection not used again.
func readAll(response *http.Response, limit int) ([]byte, error) {
	defer response.Body.Close()
	if response.ContentLength > int64(limit) {
		return nil, errTooLong
	}
	var buf bytes.Buffer
	if response.ContentLength > 0 {
		buf.Grow(int(response.ContentLength) + bytes.MinRead) // ReadFrom wants to see the end without growing
	}
	if _, err := buf.ReadFrom(io.LimitReader(response.Body, int64(limit)+1)); err != nil {
		return nil, err
	}
	if buf.Len() > limit {
		return nil, errTooLong
	}
	return buf.Bytes(), nil
}

// reason cuts the phrase out of a status line's end, such as "403 Forbidden". Its bytes are ISO 8859-1, as HTTP/1.1 once said and as the
// plugin's HTTP library reads them.
func reason(status string) string {
	_, phrase, _ := strings.Cut(status, " ")
	runes := make([]rune, len(phrase))
	for i := range len(phrase) {
		runes[i] = rune(phrase[i])
	}
	return strings.TrimSpace(string(runes))
}
