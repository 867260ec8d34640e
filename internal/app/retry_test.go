package app_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
)

// status answers with statuses by the number of the call with the same id; the last one stays.
func statuses(list ...int) func(http.ResponseWriter, *http.Request, *call) {
	return func(rw http.ResponseWriter, _ *http.Request, c *call) {
		rw.WriteHeader(list[min(c.Number, len(list))-1])
	}
}

// waitRows waits until the rows of the delivery table are in the given states, in the order of
// their making.
func (w *world) waitRows(states ...delivery.State) []row {
	w.t.Helper()
	var rows []row
	wait(w.t, fmt.Sprintf("rows %v", states), func() (bool, string) {
		rows = w.rows()
		got := make([]delivery.State, len(rows))
		for i := range rows {
			got[i] = delivery.State(rows[i].State)
		}
		return slices.Equal(got, states), fmt.Sprintf("%+v", rows)
	})
	return rows
}

// A delivery that fails becomes a row, is repeated under the same id, and ends; the log tells of
// each attempt.
func TestFailedDeliveryIsRepeated(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		answers  []int
		state    delivery.State
		reason   delivery.Reason
		status   int
		attempts []string
	}{
		{"delivered in the end", []int{500, 404, 204}, delivery.Delivered, "", 204, []string{"1:500", "2:404", "3:204"}},
		{"used up", []int{500}, delivery.Dead, delivery.ReasonExhausted, 500, []string{"1:500", "2:500", "3:500", "4:500"}},
		{"gone", []int{410}, delivery.Dead, delivery.ReasonGone, 410, []string{"1:410"}},
		{"a redirect is not followed", []int{302, 200}, delivery.Delivered, "", 200, []string{"1:302", "2:200"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			elsewhere := w.receiver(nil)
			answer := statuses(test.answers...)
			rec := w.receiver(func(rw http.ResponseWriter, r *http.Request, c *call) {
				rw.Header().Set("Location", elsewhere.at("/moved"))
				answer(rw, r, c)
			})
			f := w.load("COURSE_ENROLLMENT_CREATED__readme")
			id := w.rule(f.Event, rec.at(""), false)
			w.publish(f.message(0, "one"))
			w.start(nil)
			got := w.waitRows(test.state)[0]
			w.waitCommitted(0, 1)
			calls := rec.all()
			want := row{
				ID: calls[0].id(), Rule: id, State: int(test.state), Attempts: len(test.attempts),
				Status: test.status, Reason: string(test.reason),
			}
			if test.state == delivery.Dead {
				want.BodySize = len(f.body(false, "one")) // kept for a replay
			}
			if got != want {
				t.Errorf("row %+v\nwant %+v", got, want)
			}
			for _, c := range calls {
				if c.id() != calls[0].id() || c.Body != f.body(false, "one") {
					t.Errorf("attempt %d is of another delivery: %s", c.Number, c.id())
				}
			}
			wait(t, "the attempt log", func() (bool, string) {
				log := w.attempts()
				return slices.Equal(log, test.attempts), fmt.Sprint(log)
			})
			if n := len(elsewhere.all()); n > 0 {
				t.Errorf("the redirect was followed %d times", n)
			}
		})
	}
}

// An endpoint that asks for patience gets it, for everything in its lane, and no attempt counts.
func TestRetryAfterClosesTheLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	closed := make(chan time.Time, 1)
	rec := w.receiver(func(rw http.ResponseWriter, _ *http.Request, _ *call) {
		select {
		case closed <- time.Now():
			rw.Header().Set("Retry-After", "5")
			rw.WriteHeader(http.StatusTooManyRequests)
		default:
		}
	})
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	d := w.start(nil)
	w.publish(f.message(0, "one"))
	w.waitRows(delivery.Pending)
	w.publish(f.message(0, "two"))
	rows := w.waitRows(delivery.Pending, delivery.Pending)
	if n := len(rec.all()); n != 1 {
		t.Errorf("%d calls while the endpoint wanted none", n)
	}
	for _, r := range rows {
		if r.Attempts != 0 || r.Reason != string(delivery.ReasonRetryAfter) {
			t.Errorf("row %+v", r)
		}
	}
	w.waitCommitted(0, 2)
	rows = w.waitRows(delivery.Delivered, delivery.Delivered)
	if waited := time.Since(<-closed); waited < 5*time.Second {
		t.Errorf("delivered after %s, within the 5 s that were asked for", waited)
	}
	for _, r := range rows {
		if r.Attempts != 1 {
			t.Errorf("%d attempts count, want the one that was taken", r.Attempts)
		}
	}
	if n := len(rec.all()); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
	if got := d.metric(`webhook_dispatcher_undecodable_total{reason="no_id"}`); got != "0" {
		t.Errorf("a series that should begin at zero is %s", got)
	}
}

// A slow endpoint does not hold up the partition: after the hand-off time its delivery is a leased
// row, the offset goes on, and the one request that is under way still counts.
func TestSlowEndpointIsHandedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	defer release() // a test that fails meanwhile must not wait for ever for its receiver
	rec := w.receiver(func(_ http.ResponseWriter, r *http.Request, _ *call) {
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	})
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	w.start(func(cfg *config.Config) { cfg.HandOffAfter, cfg.Timeout = 100*time.Millisecond, patience })
	w.publish(f.message(0, "slow"))
	got := w.waitRows(delivery.Leased)[0]
	if got.Reason != string(delivery.ReasonHandOff) || got.BodySize == 0 {
		t.Errorf("row %+v", got)
	}
	w.waitCommitted(0, 1) // although the request has no answer yet
	release()
	done := w.waitRows(delivery.Delivered)[0]
	if done.ID != rec.all()[0].id() || done.Attempts != 1 || done.Status != 200 {
		t.Errorf("row %+v", done)
	}
	if n := len(rec.all()); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// An endpoint that hangs and one that is not there harm no other: the healthy one has everything
// long before. What waits for the hung one, at most a window of each partition, is made rows when
// the daemon stops.
func TestBadEndpointsHarmNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	hung := w.receiver(func(_ http.ResponseWriter, r *http.Request, _ *call) { <-r.Context().Done() })
	healthy, refusing := w.receiver(nil), w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, hung.at(""), false)
	w.rule(f.Event, healthy.at(""), true)
	w.rule(f.Event, refusing.at(""), false)
	refusing.Close()
	const events = 60
	for i := range events {
		w.publish(f.message(int32(i%2), fmt.Sprintf("e%d", i)))
	}
	d := w.start(func(cfg *config.Config) {
		cfg.HandOffAfter, cfg.Timeout = 50*time.Millisecond, 30*time.Second
		cfg.EndpointConcurrency, cfg.MaxInFlight = 4, 16
		cfg.RetrySchedule = []time.Duration{time.Hour}
	})
	healthy.wait(t, events)
	for partition := range int32(2) {
		wait(t, "the window to move on", func() (bool, string) {
			at := w.committed(partition)
			return at >= events/2-16, fmt.Sprint(at)
		})
	}
	d.stop()
	w.waitCommitted(0, events/2)
	w.waitCommitted(1, events/2)
	hung.CloseClientConnections() // or stopping waits for the timeout
	d.end()
	if n := len(healthy.all()); n != events {
		t.Errorf("the healthy endpoint was called %d times", n)
	}
	rows := map[int32]int{}
	for _, r := range w.rows() {
		rows[r.Rule]++
	}
	if rows[1] != events || rows[3] != events {
		t.Errorf("rows by rule: %v, want %d for each delivery that was not taken", rows, events)
	}
}

// The guard stands between the rules and the network, also for the retries.
func TestEgressIsDenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	w.publish(f.message(0, "one"))
	w.start(func(cfg *config.Config) { cfg.EgressAllow = nil })
	if got := w.waitRows(delivery.Dead)[0]; got.Reason != string(delivery.ReasonEgressDenied) {
		t.Errorf("row %+v", got)
	}
	w.waitCommitted(0, 1)
	if n := len(rec.all()); n > 0 {
		t.Errorf("%d calls went through", n)
	}
}
