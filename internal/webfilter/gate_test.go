package webfilter

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/breaker"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/sender"
)

// Eight calls without an answer within five seconds or more leave the endpoint alone for ten, after which one call decides.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var err error
		e := newEngine(t, Options{
			Rules: compiled(t, enrollment, row("/1", rule.WebfilterFlags{HaltOnRequestException: true})),
			Caller: called(func(context.Context, *rule.Rule, delivery.Format, []byte) (sender.Answer, error) {
				calls++
				return said(503, `{}`), err
			}),
		})
		run := func(times int) *Outcome {
			var last *Outcome
			for range times {
				out, runErr := e.Run(t.Context(), request(t, enrollment))
				if runErr != nil {
					t.Fatal(runErr)
				}
				last = out
			}
			return last
		}
		wait := func(d time.Duration) { <-time.After(d) }

		run(20)
		wait(6 * time.Second)
		if run(20); calls != 40 {
			t.Fatalf("%d calls: a status of 503 is an answer", calls)
		}
		for _, class := range []delivery.ErrorClass{delivery.ClassEgress, delivery.ClassRequest} {
			err = failed(class)
			run(10)
			wait(6 * time.Second)
			if run(1); calls != 51 {
				t.Fatalf("%s: %d calls: it says nothing of the endpoint", class, calls)
			}
			calls -= 11
		}
		err = failed(delivery.ClassReset)
		run(1)
		for range 9 {
			wait(time.Second)
			err = nil
			run(1)
			err = failed(delivery.ClassReset)
			run(1)
		}
		if calls -= 19; calls != 40 {
			t.Fatalf("%d calls: failures with answers between them are none in a row", calls)
		}
		if run(7); calls != 47 {
			t.Fatalf("%d calls: what was before the last answer counts for the time", calls)
		}
		err = nil
		if run(1); calls != 48 {
			t.Fatalf("%d calls: it has answered", calls)
		}
		calls -= 8
		err = failed(delivery.ClassConnect)
		if run(8); calls != 48 {
			t.Fatalf("%d calls: a burst of failures opens nothing", calls)
		}
		wait(5 * time.Second)
		run(1)
		if out := run(3); calls != 49 || out.Halt == nil || testutil.ToFloat64(e.metrics.calls[outcomeBreaker]) != 3 {
			t.Fatalf("%d calls: the breaker is not open; %+v", calls, out)
		}
		wait(breaker.OpenFor + time.Millisecond)
		if run(2); calls != 50 {
			t.Fatalf("%d calls: one is to show whether it works again, and failed", calls)
		}
		wait(breaker.OpenFor + time.Millisecond)
		err = nil
		if run(3); calls != 53 {
			t.Fatalf("%d calls: it works again", calls)
		}
	})
}

// A row that others have left no time for is not to blame, one that used up the time itself is.
func TestBreakerBlamesTheSlowRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := takes(1500*time.Millisecond, said(200, `{}`))
		calls := map[int32]int{}
		e := newEngine(t, Options{
			Rules: compiled(t, enrollment, row("/1", rule.WebfilterFlags{}), row("/2", rule.WebfilterFlags{})),
			Caller: called(func(ctx context.Context, r *rule.Rule, f delivery.Format, b []byte) (sender.Answer, error) {
				calls[r.ID]++
				return slow(ctx, r, f, b)
			}),
		})
		for range 12 {
			if _, err := e.Run(t.Context(), request(t, enrollment)); err != nil {
				t.Fatal(err)
			}
		}
		if calls[1] != 12 || calls[2] != 12 {
			t.Errorf("calls %v: no breaker may have opened", calls)
		}
		slow = takes(time.Hour, sender.Answer{})
		for range 12 {
			if _, err := e.Run(t.Context(), request(t, enrollment)); err != nil {
				t.Fatal(err)
			}
		}
		if calls[1] >= 24 || calls[2] <= 12 {
			t.Errorf("calls %v: the first row's breaker must have opened, and given the second its time", calls)
		}
	})
}

func TestCallsOfOneRowAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, Options{
			Rules:  compiled(t, enrollment, row("/1", rule.WebfilterFlags{HaltOnRequestException: true})),
			Caller: takes(time.Second, said(200, `{}`)),
		})
		var wg sync.WaitGroup
		for range MaxCalls {
			wg.Go(func() {
				if out, err := e.Run(t.Context(), request(t, enrollment)); err != nil || out.Halt != nil {
					t.Errorf("%+v, %v", out, err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		out, err := e.Run(t.Context(), request(t, enrollment))
		if err != nil || out.Halt == nil || time.Since(began) != 0 || testutil.ToFloat64(e.metrics.calls[outcomeBusy]) != 1 {
			t.Errorf("%+v, %v after %s", out, err, time.Since(began))
		}
		wg.Wait()
		if out, err := e.Run(t.Context(), request(t, enrollment)); err != nil || out.Halt != nil {
			t.Errorf("places are not given back: %+v, %v", out, err)
		}
	})
}

func TestGatesAreBounded(t *testing.T) {
	t.Parallel()
	var g gates
	first := g.of(1, "u")
	if g.of(1, "u") != first || g.of(1, "other") == first || g.of(2, "u") == first {
		t.Error("a row has one gate for each URL")
	}
	for i := range int32(maxGates) {
		g.of(i, "v")
	}
	if len(g.byRow) > maxGates || g.of(1, "u") == first {
		t.Errorf("%d gates", len(g.byRow))
	}
}
