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
	Status      int    // 200 or more
	Reason      string // phrase of the status line, "" if there was none
	ContentType string // value of the header
	Body        []byte // the whole body
}

// CallError says why there is no answer. Its text may be logged and shown: it holds nothing of the
// URL, the address or the answer.
type CallError struct {
	Class  delivery.ErrorClass
	Detail string // explains the class; it may be empty
	// TokenServer is scheme and host of the authorization server if it failed, else "". The text
	// does not include it.
	TokenServer string
}

func (e *CallError) Error() string {
	if e.Detail == "" {
		return "no answer: " + string(e.Class)
	}
	return "no answer: " + string(e.Class) + ": " + e.Detail
}

// callError makes the error of an attempt with a.Class.
func callError(r *rule.Rule, a *delivery.Attempt, cause error) *CallError {
	e := &CallError{Class: a.Class, Detail: describe(cause)}
	if _, ok := errors.AsType[tokenError](cause); ok {
		if u, err := url.Parse(r.Access.OAuth2.TokenURL); err == nil {
			e.TokenServer = u.Scheme + "://" + u.Host
		}
	}
	return e
}

// Try is Send, but also returns the cause of the attempt's class as a *CallError, nil if it has
// none.
func (s *Sender) Try(ctx context.Context, r *rule.Rule, d *delivery.Delivery) (delivery.Attempt, error) {
	a, cause := s.attempt(ctx, r, d, 1)
	if a.Class == "" {
		return a, nil
	}
	return a, callError(r, &a, cause)
}

const errTooLong fault = "the answer is too long" // of the class protocol

// Call makes one request to the endpoint of r, as Send does, and returns the answer whatever its
// status, redirects included. An answer longer than limit bytes is an error.
//
// The error is a *CallError; cancelling ctx gives it the class cancelled, its deadline the class
// timeout. Failures are logged as by Send; statuses are left to the caller. Nothing is counted.
func (s *Sender) Call(ctx context.Context, r *rule.Rule, id delivery.ID, format delivery.Format, body []byte, limit int) (Answer, error) {
	d := delivery.Delivery{ID: id, Kind: r.Kind, RuleID: r.ID, EventType: r.EventType, Format: format, Body: body}
	a := delivery.Attempt{ID: id, Kind: r.Kind, RuleID: r.ID, EventType: r.EventType, Number: 1, At: s.options.Now()}
	var answer Answer
	location, err := s.exchange(ctx, r, &d, &a, &answer, limit)
	a.Duration = s.options.Now().Sub(a.At)
	switch {
	case err != nil:
		s.attempts.record(ctx, r, &a, "", err)
		return Answer{}, callError(r, &a, err)
	case isRedirect(a.Status):
		s.attempts.record(ctx, r, &a, location, nil)
	default:
		s.attempts.succeeded(ctx, r, &a)
	}
	return answer, nil
}

// read reads an answer that is at most limit bytes long.
func (a *Answer) read(response *http.Response, limit int) (err error) {
	a.Status, a.Reason = response.StatusCode, reason(response.Status)
	a.ContentType = response.Header.Get("Content-Type")
	a.Body, err = readAll(response, limit)
	return err
}

// readAll reads a body of at most limit bytes.
func readAll(response *http.Response, limit int) ([]byte, error) {
	defer response.Body.Close()
	if response.ContentLength > int64(limit) {
		return nil, errTooLong
	}
	var buf bytes.Buffer
	if response.ContentLength > 0 {
		buf.Grow(int(response.ContentLength) + bytes.MinRead) // else ReadFrom grows to see the end
	}
	if _, err := buf.ReadFrom(io.LimitReader(response.Body, int64(limit)+1)); err != nil {
		return nil, err
	}
	if buf.Len() > limit {
		return nil, errTooLong
	}
	return buf.Bytes(), nil
}

// reason returns the phrase of a status such as "403 Forbidden", read as ISO 8859-1 as by the
// plugin's HTTP library.
func reason(status string) string {
	_, phrase, _ := strings.Cut(status, " ")
	runes := make([]rune, len(phrase))
	for i := range len(phrase) {
		runes[i] = rune(phrase[i])
	}
	return strings.TrimSpace(string(runes))
}
