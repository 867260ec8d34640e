package delivery_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

func TestSign(t *testing.T) {
	t.Parallel()
	const none, works, fails = delivery.SignalNone, delivery.SignalHealthy, delivery.SignalUnhealthy
	minute := time.Minute
	for _, tc := range []struct {
		name string
		a    delivery.Attempt
		want delivery.Signal
	}{
		{"200", delivery.Attempt{Status: 200}, works},
		{"204", delivery.Attempt{Status: 204}, works},
		{"302", delivery.Attempt{Status: 302}, works},
		{"400", delivery.Attempt{Status: 400}, works},
		{"404 with Retry-After", delivery.Attempt{Status: 404, RetryAfter: minute}, works},
		{"410", delivery.Attempt{Status: 410}, works},
		{"408", delivery.Attempt{Status: 408}, fails},
		{"408 with Retry-After", delivery.Attempt{Status: 408, RetryAfter: minute}, fails},
		{"425", delivery.Attempt{Status: 425}, fails},
		{"429", delivery.Attempt{Status: 429}, fails},
		{"429 with Retry-After has the closed lane", delivery.Attempt{Status: 429, RetryAfter: minute}, works},
		{"500", delivery.Attempt{Status: 500}, fails},
		{"500 with Retry-After", delivery.Attempt{Status: 500, RetryAfter: minute}, fails},
		{"503", delivery.Attempt{Status: 503}, fails},
		{"503 with Retry-After has the closed lane", delivery.Attempt{Status: 503, RetryAfter: minute}, works},
		{"599", delivery.Attempt{Status: 599}, fails},
		{"dns", delivery.Attempt{Class: delivery.ClassDNS}, fails},
		{"connect", delivery.Attempt{Class: delivery.ClassConnect}, fails},
		{"tls", delivery.Attempt{Class: delivery.ClassTLS}, fails},
		{"timeout", delivery.Attempt{Class: delivery.ClassTimeout}, fails},
		{"reset", delivery.Attempt{Class: delivery.ClassReset}, fails},
		{"a 200 that broke off", delivery.Attempt{Status: 200, Class: delivery.ClassReset}, fails},
		{"protocol", delivery.Attempt{Class: delivery.ClassProtocol}, fails},
		{"other", delivery.Attempt{Class: delivery.ClassOther}, fails},
		{"denied by the guard", delivery.Attempt{Class: delivery.ClassEgress}, none},
		{"denied literal", delivery.Attempt{Class: delivery.ClassEgress, Final: true}, none},
		{"no request can be made", delivery.Attempt{Class: delivery.ClassRequest, Final: true}, none},
		{"no access token", delivery.Attempt{Class: delivery.ClassToken}, fails},
		{"its expression fails", delivery.Attempt{Class: delivery.ClassExpression, Final: true}, none},
		{"left out by its filter", delivery.Attempt{Class: delivery.ClassFiltered}, none},
		{"given up by us", delivery.Attempt{Class: delivery.ClassCancelled}, none},
	} {
		if got := tc.a.Signal(); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

// A row of failures ends with a good run of what failed, and with nothing else.
// A row of failures ends with a good run, and with the expression, though no failure comes after.
func TestUpdate(t *testing.T) {
	t.Parallel()
	var filter, transform, changed atomic.Uint64
	for name, tc := range map[string]struct {
		then              func()
		filter, transform *atomic.Uint64
		want              int
	}{
		"as it was":              {nil, &filter, &transform, 3},
		"a good transform":       {func() { transform.Add(1) }, &filter, &transform, 2},
		"a good filter":          {func() { filter.Add(1) }, &filter, &transform, 3},
		"both":                   {func() { filter.Add(1); transform.Add(1) }, &filter, &transform, 0},
		"another transform":      {nil, &filter, &changed, 2},
		"no transform any more":  {nil, &filter, nil, 2},
		"no expression any more": {nil, nil, nil, 0},
	} {
		var h delivery.LaneHealth
		for range 3 {
			runs := delivery.Runs{Counter: &transform, Good: transform.Load()}
			h.NoteRenderFailure(delivery.RenderFailure{Stage: delivery.StageTransform, Runs: runs})
		}
		for range 2 {
			h.NoteRenderFailure(delivery.RenderFailure{Stage: delivery.StageFilter, Runs: delivery.Runs{Counter: &filter, Good: filter.Load()}})
		}
		if tc.then != nil {
			tc.then()
		}
		if h.Update(tc.filter, tc.transform); h.RenderFailures != tc.want {
			t.Errorf("%s: %d, want %d", name, h.RenderFailures, tc.want)
		}
	}
	var h delivery.LaneHealth
	h.NoteRenderFailure(delivery.RenderFailure{Stage: delivery.StageRule})
	if h.Update(nil, nil); h.RenderFailures != 1 {
		t.Errorf("%d, want the failure that no expression has", h.RenderFailures)
	}
}

func TestUnbuilt(t *testing.T) {
	t.Parallel()
	var filter, transform, changed atomic.Uint64
	runs := func(c *atomic.Uint64) delivery.Runs { return delivery.Runs{Counter: c, Good: c.Load()} }
	var h delivery.LaneHealth
	for i, step := range []struct {
		class delivery.ErrorClass
		stage delivery.Stage
		good  *atomic.Uint64 // has a good run before
		of    *atomic.Uint64
		want  int
	}{
		{delivery.ClassExpression, delivery.StageTransform, nil, &transform, 1},
		{delivery.ClassExpression, delivery.StageTransform, &filter, &transform, 2}, // the filter's runs say nothing of the transform
		{delivery.ClassCancelled, 0, nil, nil, 2},
		{delivery.ClassFiltered, 0, &filter, nil, 2},
		{"", 0, nil, nil, 2}, // a body that was made long ago
		{delivery.ClassTimeout, 0, nil, nil, 2},
		{delivery.ClassExpression, delivery.StageTransform, nil, &transform, 3},
		{delivery.ClassExpression, delivery.StageFilter, &filter, &filter, 3}, // between those of the transform
		{delivery.ClassExpression, delivery.StageTransform, &filter, &transform, 4},
		{delivery.ClassExpression, delivery.StageFilter, &filter, &filter, 4},
		{delivery.ClassExpression, delivery.StageTransform, &transform, &transform, 1},
		{delivery.ClassExpression, delivery.StageFilter, nil, &filter, 2},
		{delivery.ClassExpression, delivery.StageFilter, nil, &filter, 3},
		{delivery.ClassExpression, delivery.StageFilter, nil, &changed, 1}, // the rule has another filter
		{delivery.ClassExpression, delivery.StageRule, nil, nil, 1},
		{delivery.ClassExpression, delivery.StageRule, nil, nil, 2},
		{delivery.ClassFiltered, 0, nil, nil, 1}, // an event that could be read
	} {
		if step.good != nil {
			step.good.Add(1)
		}
		if step.of != nil {
			h.NoteRenderFailure(delivery.RenderFailure{Stage: step.stage, Runs: runs(step.of)})
		} else {
			h.Note(&delivery.Attempt{Class: step.class, Status: 200}, time.Unix(int64(i), 0))
		}
		if h.RenderFailures != step.want {
			t.Errorf("step %d: %d unbuilt, want %d", i, h.RenderFailures, step.want)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	ok, fail, gone := delivery.Attempt{Status: 200}, delivery.Attempt{Status: 404}, delivery.Attempt{Status: 410}
	wait := delivery.Attempt{Status: 429, RetryAfter: time.Hour}
	denied, cancelled := delivery.Attempt{Class: delivery.ClassEgress}, delivery.Attempt{Class: delivery.ClassCancelled}
	timeout := delivery.Attempt{Class: delivery.ClassTimeout}
	for _, tc := range []struct {
		name string
		as   []delivery.Attempt // one a second, from 1 on
		want delivery.LaneHealth
	}{
		{"nothing", nil, delivery.LaneHealth{}},
		{"given up says nothing", []delivery.Attempt{cancelled}, delivery.LaneHealth{}},
		{"taken", []delivery.Attempt{ok, ok}, delivery.LaneHealth{LastTaken: at(2)}},
		{
			"since the first failure",
			[]delivery.Attempt{ok, fail, fail},
			delivery.LaneHealth{LastTaken: at(1), FailingSince: at(2), LastFailure: at(3)},
		},
		{"asking for time fails, too", []delivery.Attempt{wait}, delivery.LaneHealth{FailingSince: at(1), LastFailure: at(1)}},
		{"so does what the guard refuses", []delivery.Attempt{denied}, delivery.LaneHealth{FailingSince: at(1), LastFailure: at(1)}},
		{"given up ends no failing", []delivery.Attempt{fail, cancelled}, delivery.LaneHealth{FailingSince: at(1), LastFailure: at(1)}},
		{"one taken ends it", []delivery.Attempt{fail, gone, ok}, delivery.LaneHealth{LastTaken: at(3)}},
		{"410 in a row", []delivery.Attempt{gone, gone, gone}, delivery.LaneHealth{FailingSince: at(1), LastFailure: at(3), Gone: 3}},
		{"another answer between", []delivery.Attempt{gone, fail, gone}, delivery.LaneHealth{FailingSince: at(1), LastFailure: at(3), Gone: 1}},
		{"silence between", []delivery.Attempt{gone, timeout, gone}, delivery.LaneHealth{FailingSince: at(1), LastFailure: at(3), Gone: 2}},
	} {
		var h delivery.LaneHealth
		for i := range tc.as {
			h.Note(&tc.as[i], at(i+1))
		}
		if h != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, h, tc.want)
		}
		if h.Tried() != (tc.want != delivery.LaneHealth{}) {
			t.Errorf("%s: tried: %v", tc.name, h.Tried())
		}
	}
}

func TestOverflow(t *testing.T) {
	t.Parallel()
	d := delivery.Delivery{ID: delivery.ID{1}, Kind: delivery.KindWebhook, RuleID: 7, EventType: "t", Body: []byte("{}")}
	in := delivery.Overflow(&d, 1, 500)
	if in.State != delivery.Dead || in.Reason != delivery.ReasonQueueLimit || in.Body != nil || in.Attempts != 1 || in.Claims != 1 ||
		in.LastStatus != 500 || in.ID != d.ID || in.RuleID != 7 {
		t.Errorf("%+v, want a dead row without its body", in)
	}
	if d.Body == nil {
		t.Error("the delivery itself lost its body")
	}
}

// Runs that took too long count apart, and only as long as the expression has no good run.
func TestOverruns(t *testing.T) {
	t.Parallel()
	var filter, transform atomic.Uint64
	var h delivery.LaneHealth
	for i, step := range []struct {
		of             *atomic.Uint64
		stage          delivery.Stage
		tooLong, good  bool // good: there was a good run before
		failures, over int
	}{
		{&filter, delivery.StageFilter, true, false, 1, 1},
		{&filter, delivery.StageFilter, true, false, 2, 2},
		{&filter, delivery.StageFilter, false, false, 3, 2}, // another failure
		{&transform, delivery.StageTransform, true, false, 3, 2},
		{&filter, delivery.StageFilter, true, false, 4, 3},
		{&filter, delivery.StageFilter, true, true, 1, 1},
		{&filter, delivery.StageFilter, false, true, 1, 1}, // that of the transform
		{&transform, delivery.StageTransform, false, true, 1, 0},
	} {
		if step.good {
			step.of.Add(1)
		}
		h.NoteRenderFailure(delivery.RenderFailure{
			Stage: step.stage, Runs: delivery.Runs{Counter: step.of, Good: step.of.Load()}, TooLong: step.tooLong,
		})
		if h.RenderFailures != step.failures || h.Overruns != step.over {
			t.Errorf("step %d: %d failures and %d overruns, want %d and %d", i, h.RenderFailures, h.Overruns, step.failures, step.over)
		}
	}
	transform.Add(1)
	filter.Add(1)
	if h.Update(&filter, &transform); h.Overruns != 0 || h.RenderFailures != 0 {
		t.Errorf("%d overruns after good runs", h.Overruns)
	}
}
