package webfilter

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

const enrollment = "CourseEnrollmentStarted"

// row is a row with a URL of this path.
func row(path string, flags rule.WebfilterFlags) rule.WebfilterRow {
	r := rule.WebfilterRow{WebfilterFlags: flags}
	r.URL = "https://rows.test" + path
	return r
}

func said(status int, body string) sender.Answer {
	return sender.Answer{Status: status, Reason: http.StatusText(status), ContentType: "application/json", Body: []byte(body)}
}

func failed(class delivery.ErrorClass) error { return &sender.CallError{Class: class} }

// takes is a caller whose every answer takes this time, unless ctx ends before.
func takes(d time.Duration, answer sender.Answer) called {
	return func(ctx context.Context, _ *rule.Rule, _ delivery.Format, _ []byte) (sender.Answer, error) {
		select {
		case <-time.After(d):
			return answer, nil
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return sender.Answer{}, failed(delivery.ClassCancelled)
			}
			return sender.Answer{}, failed(delivery.ClassTimeout)
		}
	}
}

// Each error class halts if the row says so, and only then; and its text holds no part of the URL.
func TestRequestExceptions(t *testing.T) {
	t.Parallel()
	for class := range failures {
		caller := called(func(_ context.Context, r *rule.Rule, _ delivery.Format, _ []byte) (sender.Answer, error) {
			if r.ID == 2 {
				return said(200, `{"data": {"mode": "verified"}}`), nil
			}
			return sender.Answer{}, failed(delivery.ErrorClass(class))
		})
		for _, c := range []struct {
			filter string
			flags  rule.WebfilterFlags
			want   string
		}{
			{enrollment, rule.WebfilterFlags{HaltOn4xx: true, HaltOn5xx: true, RedirectOnRequestException: "/r"}, `{"data": {"mode": "verified"}}`},
			{"IDVPageURLRequested", rule.WebfilterFlags{HaltOnRequestException: true}, `{"data": {"mode": "verified"}}`},
			{"Unheard.Of", rule.WebfilterFlags{HaltOnRequestException: true}, `{"data": {"mode": "verified"}}`},
			{
				enrollment,
				rule.WebfilterFlags{HaltOnRequestException: true, RedirectOnRequestException: "/r", DisableHalt: true},
				`{"exception": {"PreventEnrollment": {"message": "Request of webfilter 1 after webhook event CourseEnrollmentStarted failed: ` +
					failures[class] + `", "redirect_to": "/r"}}}`,
			},
		} {
			e := newEngine(t, Options{Rules: compiled(t, c.filter, row("/1", c.flags), row("/2", rule.WebfilterFlags{})), Caller: caller})
			out, err := e.Run(t.Context(), request(t, c.filter))
			if err != nil {
				t.Fatal(err)
			}
			if got := text(out, c.filter); got != c.want {
				t.Errorf("%s, %s: got %s, want %s", class, c.filter, got, c.want)
			}
			if cause := "webfilter 1 gave no answer: " + string(class) + " (halt_on_request_exception)"; out.Halt != nil && out.Halt.Cause != cause {
				t.Errorf("for logs it says %q, want %q", out.Halt.Cause, cause)
			}
		}
	}
}

// What logs say of a halting status has no part of the URL, and names the flag.
func TestCauseOfAStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{403: "webfilter 1 answered 403 (halt_on_4xx)", 502: "webfilter 1 answered 502 (halt_on_5xx)"} {
		e := newEngine(t, Options{
			Rules: compiled(t, enrollment, row("/secret", rule.WebfilterFlags{HaltOn4xx: true, HaltOn5xx: true})),
			Caller: called(func(context.Context, *rule.Rule, delivery.Format, []byte) (sender.Answer, error) {
				return said(status, `{}`), nil
			}),
		})
		out, err := e.Run(t.Context(), request(t, enrollment))
		if err != nil || out.Halt == nil || out.Halt.Cause != want {
			t.Errorf("%+v, %v, want %q", out.Halt, err, want)
		}
	}
}

// A row that waits for its secrets stops a request that may wait before any row is called. In the request nobody waits: it counts as one
// that gave no answer.
func TestRowsThatWaitForTheirSecrets(t *testing.T) {
	t.Parallel()
	calls := 0
	rows := compiled(t, enrollment, row("/1", rule.WebfilterFlags{}), row("/2", rule.WebfilterFlags{HaltOnRequestException: true}))
	rows[1].Hold, rows[1].Waits = "its secrets cannot be opened", true
	e := newEngine(t, Options{Rules: rows, Caller: called(
		func(context.Context, *rule.Rule, delivery.Format, []byte) (sender.Answer, error) {
			calls++
			return said(200, `{"data": {"mode": "verified"}}`), nil
		},
	)})
	q := request(t, enrollment)
	if out, err := e.Run(t.Context(), q); err != nil || out.Wait || out.Halt == nil || calls != 1 {
		t.Errorf("in the request: %+v, %v, %d calls", out, err, calls)
	}
	q.MayWait = true
	if out, err := e.Run(t.Context(), q); err != nil || !out.Wait || out.Halt != nil || out.Data.Len() != 0 || calls != 1 {
		t.Errorf("on the bus: %+v, %v, %d calls", out, err, calls)
	}
	rows[1].Waits = false // a bad URL gets no better by waiting
	if out, err := e.Run(t.Context(), q); err != nil || out.Wait || out.Halt == nil || calls != 2 {
		t.Errorf("with a bad URL: %+v, %v, %d calls", out, err, calls)
	}
}

func TestMergingAndHalting(t *testing.T) {
	t.Parallel()
	const (
		one = `{"data": {"a": 1, "b": {"x": 1}}, "exception": {"P": "1", "Q": 1}}`
		two = `{"exception": {"Q": 2, "R": {}}, "data": {"b": {"y": 2}, "c": 3}}`
	)
	plain := rule.WebfilterFlags{}
	for _, c := range []struct {
		name    string
		flags   []rule.WebfilterFlags
		answers []sender.Answer
		want    string
	}{
		{"no rows", nil, nil, `{}`},
		{
			"keys stand where they first stood",
			[]rule.WebfilterFlags{plain, plain},
			[]sender.Answer{said(200, one), said(200, two)},
			`{"data": {"a": 1, "b": {"y": 2}, "c": 3}, "exception": {"P": "1", "Q": 2, "R": {}}}`,
		},
		{
			"data disabled",
			[]rule.WebfilterFlags{plain, {DisableFiltering: true}},
			[]sender.Answer{said(200, one), said(200, two)},
			`{"data": {"a": 1, "b": {"x": 1}}, "exception": {"P": "1", "Q": 2, "R": {}}}`,
		},
		{
			"exceptions disabled",
			[]rule.WebfilterFlags{{DisableHalt: true}, plain},
			[]sender.Answer{said(200, one), said(200, two)},
			`{"data": {"a": 1, "b": {"y": 2}, "c": 3}, "exception": {"Q": 2, "R": {}}}`,
		},
		{
			"a halt leaves nothing of the rows before",
			[]rule.WebfilterFlags{plain, {HaltOn4xx: true}},
			[]sender.Answer{said(200, one), said(404, two)},
			`{"exception": {"PreventEnrollment": {"message": "Request to https://rows.test/2 after webhook event CourseEnrollmentStarted ` +
				`returned status code 404 (Not Found)", "redirect_to": "", "status_code": 404}}}`,
		},
		{
			"the last of 4xx",
			[]rule.WebfilterFlags{{HaltOn4xx: true}},
			[]sender.Answer{said(499, one)},
			`{"exception": {"PreventEnrollment": {"message": "Request to https://rows.test/1 after webhook event CourseEnrollmentStarted ` +
				`returned status code 499 ()", "redirect_to": "", "status_code": 499}}}`,
		},
		{
			"the last of 5xx",
			[]rule.WebfilterFlags{{HaltOn5xx: true, RedirectOn5xx: "/5", RedirectOn4xx: "/4"}},
			[]sender.Answer{said(599, one)},
			`{"exception": {"PreventEnrollment": {"message": "Request to https://rows.test/1 after webhook event CourseEnrollmentStarted ` +
				`returned status code 599 ()", "redirect_to": "/5", "status_code": 599}}}`,
		},
		{"4xx is not 5xx", []rule.WebfilterFlags{{HaltOn5xx: true}}, []sender.Answer{said(499, one)}, one},
		{"5xx is not 4xx", []rule.WebfilterFlags{{HaltOn4xx: true}}, []sender.Answer{said(500, one)}, one},
		{"3xx is no halt", []rule.WebfilterFlags{{HaltOn4xx: true, HaltOn5xx: true}}, []sender.Answer{said(302, one)}, one},
		{"600 is no halt", []rule.WebfilterFlags{{HaltOn4xx: true, HaltOn5xx: true}}, []sender.Answer{said(600, one)}, one},
		{"parts of the wrong kind", []rule.WebfilterFlags{plain}, []sender.Answer{said(200, `{"data": [1], "exception": "no"}`)}, `{}`},
		{
			"one part of the wrong kind",
			[]rule.WebfilterFlags{plain},
			[]sender.Answer{said(200, `{"data": null, "exception": {"P": 1}}`)},
			`{"exception": {"P": 1}}`,
		},
		{
			"what Python's JSON knows",
			[]rule.WebfilterFlags{plain},
			[]sender.Answer{
				said(200, `{"data": {"n": NaN, "i": -Infinity, "b": 123456789012345678901234567890, "f": 1.0, "f": 1e400, "e": "\u00e9"}}`),
			},
			`{"data": {"n": NaN, "i": -Infinity, "b": 123456789012345678901234567890, "f": Infinity, "e": "\u00e9"}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var rows []rule.WebfilterRow
			for i, flags := range c.flags {
				rows = append(rows, row(fmt.Sprintf("/%d", i+1), flags))
			}
			e := newEngine(t, Options{Rules: compiled(t, enrollment, rows...), Caller: called(
				func(_ context.Context, r *rule.Rule, _ delivery.Format, _ []byte) (sender.Answer, error) {
					return c.answers[r.ID-1], nil
				},
			)})
			out, err := e.Run(t.Context(), request(t, enrollment))
			if err != nil {
				t.Fatal(err)
			}
			if got := text(out, enrollment); got != c.want {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
}

// All rows have the deadline together; what it leaves no time for is a failed request of its row.
func TestDeadlineOfTheChain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		e := newEngine(t, Options{
			Caller: takes(1500*time.Millisecond, said(200, `{"data": {"mode": "verified"}}`)), Registerer: registry,
			Rules: compiled(t, enrollment, row("/1", rule.WebfilterFlags{}), row("/2", rule.WebfilterFlags{}), row("/3", rule.WebfilterFlags{})),
		})
		began := time.Now()
		out, err := e.Run(t.Context(), request(t, enrollment))
		if took := time.Since(began); err != nil || took != DefaultDeadline || out.Calling != took {
			t.Fatalf("took %s, %s of it for calls, %v", took, out.Calling, err)
		}
		if got := text(out, enrollment); got != `{"data": {"mode": "verified"}}` {
			t.Error(got)
		}
		for result, want := range map[outcome]float64{"2xx": 1, "timeout": 1, "deadline": 1} {
			if got := testutil.ToFloat64(e.metrics.calls[result]); got != want {
				t.Errorf("%s: %v, want %v", result, got, want)
			}
		}

		e = newEngine(t, Options{
			Caller: takes(time.Hour, sender.Answer{}), Deadline: time.Second,
			Rules: compiled(t, enrollment, row("/1", rule.WebfilterFlags{}), row("/2", rule.WebfilterFlags{HaltOnRequestException: true})),
		})
		began = time.Now()
		out, err = e.Run(t.Context(), request(t, enrollment))
		if took := time.Since(began); err != nil || took != time.Second {
			t.Fatalf("took %s, %v", took, err)
		}
		if out.Halt == nil || !strings.Contains(out.Halt.Message, "webfilter 2 ") {
			t.Errorf("a row that was not reached in time does not halt: %+v", out.Halt)
		}
	})
}

// Whoever asked has gone: the call under way ends, and no other begins.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		hang := takes(time.Hour, sender.Answer{})
		e := newEngine(t, Options{
			Rules: compiled(t, enrollment, row("/1", rule.WebfilterFlags{HaltOnRequestException: true}), row("/2", rule.WebfilterFlags{})),
			Caller: called(func(ctx context.Context, r *rule.Rule, f delivery.Format, b []byte) (sender.Answer, error) {
				calls++
				return hang(ctx, r, f, b)
			}),
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		out, err := e.Run(ctx, request(t, enrollment))
		if time.Since(began) != time.Second || err == nil || out != nil || calls != 1 {
			t.Errorf("%s, %v, %v, %d calls", time.Since(began), out, err, calls)
		}
	})
}

func TestHeldRowsCountAsFailed(t *testing.T) {
	t.Parallel()
	broken := rule.WebfilterRow{WebfilterFlags: rule.WebfilterFlags{HaltOnRequestException: true, RedirectOnRequestException: "/r"}}
	broken.URL = "nowhere"
	e := newEngine(t, Options{Rules: compiled(t, enrollment, broken), Caller: called(
		func(context.Context, *rule.Rule, delivery.Format, []byte) (sender.Answer, error) {
			t.Error("called")
			return sender.Answer{}, nil
		},
	)})
	out, err := e.Run(t.Context(), request(t, enrollment))
	if err != nil || out.Halt == nil || out.Halt.RedirectTo != "/r" || testutil.ToFloat64(e.metrics.calls[outcomeHeld]) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	good := Options{Rules: rules{}, Caller: called(nil), Registerer: registry}
	newEngine(t, good)
	for name, o := range map[string]Options{
		"nothing": {}, "no caller": {Rules: rules{}}, "no rules": {Caller: called(nil)},
		"negative deadline": {Rules: rules{}, Caller: called(nil), Deadline: -1}, "metrics twice": good,
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
