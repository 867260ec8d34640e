package delivery_test

import (
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

var schedule = []time.Duration{5 * time.Second, 5 * time.Minute, time.Hour}

func newPolicy(t *testing.T, random float64) *delivery.Policy {
	t.Helper()
	p, err := delivery.NewPolicy(schedule, func() float64 { return random })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestJudge(t *testing.T) {
	t.Parallel()
	p := newPolicy(t, 0.5) // the middle: no jitter
	type decision = delivery.Decision
	retry := func(attempts int, delay time.Duration, reason delivery.Reason) decision {
		return decision{State: delivery.Pending, Delay: delay, Attempts: attempts, Counted: true, Reason: reason}
	}
	dead := func(attempts int, reason delivery.Reason) decision {
		return decision{State: delivery.Dead, Attempts: attempts, Counted: true, Reason: reason}
	}
	for _, tc := range []struct {
		name   string
		before int
		a      delivery.Attempt
		want   decision
	}{
		{"200", 0, delivery.Attempt{Status: 200}, decision{State: delivery.Delivered, Attempts: 1, Counted: true}},
		{"299 on the last attempt", 3, delivery.Attempt{Status: 299}, decision{State: delivery.Delivered, Attempts: 4, Counted: true}},
		{"199 is no success", 0, delivery.Attempt{Status: 199}, retry(1, 5*time.Second, delivery.ReasonStatus)},
		{"301 is a failure", 0, delivery.Attempt{Status: 301}, retry(1, 5*time.Second, delivery.ReasonStatus)},
		{"304 is a failure", 0, delivery.Attempt{Status: 304}, retry(1, 5*time.Second, delivery.ReasonStatus)},
		{"400 is tried again", 0, delivery.Attempt{Status: 400}, retry(1, 5*time.Second, delivery.ReasonStatus)},
		{"500 second time", 1, delivery.Attempt{Status: 500}, retry(2, 5*time.Minute, delivery.ReasonStatus)},
		{
			"500 with Retry-After: at least that", 0,
			delivery.Attempt{Status: 500, RetryAfter: time.Minute},
			retry(1, time.Minute, delivery.ReasonStatus),
		},
		{
			"500 with a short Retry-After", 1,
			delivery.Attempt{Status: 500, RetryAfter: time.Second},
			retry(2, 5*time.Minute, delivery.ReasonStatus),
		},
		{"last delay", 2, delivery.Attempt{Status: 502}, retry(3, time.Hour, delivery.ReasonStatus)},
		{"after the last delay", 3, delivery.Attempt{Status: 502}, dead(4, delivery.ReasonExhausted)},
		{"410", 0, delivery.Attempt{Status: 410}, dead(1, delivery.ReasonGone)},
		{"410 with Retry-After", 0, delivery.Attempt{Status: 410, RetryAfter: time.Hour}, dead(1, delivery.ReasonGone)},
		{"429 without Retry-After", 0, delivery.Attempt{Status: 429}, retry(1, 5*time.Second, delivery.ReasonStatus)},
		{
			"429 with Retry-After counts no attempt", 1,
			delivery.Attempt{Status: 429, RetryAfter: time.Minute},
			decision{State: delivery.Pending, Delay: time.Minute, Attempts: 1, Reason: delivery.ReasonRetryAfter},
		},
		{
			"503 with Retry-After beyond a day, schedule used up", 3,
			delivery.Attempt{Status: 503, RetryAfter: 48 * time.Hour},
			decision{State: delivery.Pending, Delay: 24 * time.Hour, Attempts: 3, Reason: delivery.ReasonRetryAfter},
		},
		{"timeout", 0, delivery.Attempt{Class: delivery.ClassTimeout}, retry(1, 5*time.Second, delivery.ReasonError)},
		{
			"a 200 whose body broke off", 0,
			delivery.Attempt{Status: 200, Class: delivery.ClassReset},
			retry(1, 5*time.Second, delivery.ReasonError),
		},
		{"denied after a look-up", 0, delivery.Attempt{Class: delivery.ClassEgress}, retry(1, 5*time.Second, delivery.ReasonEgressDenied)},
		{"denied literal", 0, delivery.Attempt{Class: delivery.ClassEgress, Final: true}, dead(1, delivery.ReasonEgressDenied)},
		{"no request can be made", 0, delivery.Attempt{Class: delivery.ClassRequest, Final: true}, dead(1, delivery.ReasonUnsendable)},
		{
			"given up by us", 2,
			delivery.Attempt{Class: delivery.ClassCancelled},
			decision{State: delivery.Pending, Attempts: 2, Reason: delivery.ReasonDrain},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := p.Decide(tc.before, &tc.a); got != tc.want {
				t.Errorf("Judge(%d, %+v)\n got %+v\nwant %+v", tc.before, tc.a, got, tc.want)
			}
		})
	}
}

func TestJitterStaysWithinAFifth(t *testing.T) {
	t.Parallel()
	for _, random := range []float64{0, 0.25, 0.75, 0.999999} {
		for before, d := range schedule {
			got := newPolicy(t, random).Decide(before, &delivery.Attempt{Status: 500}).Delay
			if low, high := d*8/10, d*12/10; got < low || got > high {
				t.Errorf("delay %d at random %v is %v, want %v to %v", before, random, got, low, high)
			}
		}
	}
	if newPolicy(t, 0).Decide(0, &delivery.Attempt{Status: 500}).Delay == newPolicy(t, 0.9).Decide(0, &delivery.Attempt{Status: 500}).Delay {
		t.Error("delays do not depend on the random number")
	}
}

func TestPolicyRefusesDelaysOfNothing(t *testing.T) {
	t.Parallel()
	random := func() float64 { return 0 }
	for _, s := range [][]time.Duration{nil, {}, {0}, {time.Second, -time.Second}} {
		if _, err := delivery.NewPolicy(s, random); err == nil {
			t.Errorf("schedule %v was accepted", s)
		}
	}
	if _, err := delivery.NewPolicy(schedule, nil); err == nil {
		t.Error("a policy without randomness was accepted")
	}
}

func TestLeaseOutlastsWaitAndRequest(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[time.Duration]time.Duration{
		time.Second: time.Minute, 10 * time.Second: time.Minute, 30 * time.Second: 75 * time.Second, time.Minute: 135 * time.Second,
	} {
		if got := delivery.Lease(timeout); got != want {
			t.Errorf("Lease(%v) = %v, want %v", timeout, got, want)
		}
	}
}

func TestPutOff(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status      int
		after, want time.Duration
	}{
		{429, time.Minute, time.Minute},
		{503, time.Second, time.Second},
		{503, 48 * time.Hour, 24 * time.Hour},
		{429, 0, 0},
		{429, -time.Second, 0},
		{500, time.Minute, 0},
		{410, time.Minute, 0},
		{200, time.Minute, 0},
		{0, time.Minute, 0},
	} {
		a := delivery.Attempt{Status: tc.status, RetryAfter: tc.after}
		if got := a.PutOff(); got != tc.want {
			t.Errorf("%d with Retry-After %v: %v, want %v", tc.status, tc.after, got, tc.want)
		}
	}
}

// A policy with a schedule of its own goes by that one alone.
func TestPolicyWith(t *testing.T) {
	t.Parallel()
	p := newPolicy(t, 0.75)
	own := []time.Duration{10 * time.Second, 20 * time.Second}
	with := p.With(own)
	own[0] = time.Hour // the caller's
	failed := &delivery.Attempt{Status: 500}
	for before, want := range []time.Duration{11 * time.Second, 22 * time.Second} { // jitter as before
		if v := with.Decide(before, failed); v.State != delivery.Pending || v.Delay != want {
			t.Errorf("attempt %d: %+v, want a delay of %v", before+1, v, want)
		}
	}
	if v := with.Decide(2, failed); v.State != delivery.Dead || v.Reason != delivery.ReasonExhausted {
		t.Errorf("%+v, want dead", v)
	}
	if v := p.Decide(2, failed); v.State != delivery.Pending {
		t.Errorf("%+v: the policy itself has changed", v)
	}
	if p.With(nil) != p {
		t.Error("no schedule of its own is another policy")
	}
}
