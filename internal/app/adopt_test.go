package app_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/fakes"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// adoptedOnly makes adopted rows the rules, and reads them so seldom that what an event needs has
// to be read because of it.
func adoptedOnly(cfg *config.Config) { cfg.RulesSource, cfg.RulesRefresh = "adopted", time.Hour }

// emitted is the captured record as if it had been emitted at a moment.
func (f *fixture) emitted(partition int32, eventID string, at time.Time) fakes.Message {
	m := f.message(partition, eventID)
	m.Time = at
	for i := range m.Headers {
		if m.Headers[i].Key == "ce_time" {
			m.Headers[i].Value = []byte(at.UTC().Format("2006-01-02T15:04:05.000000+00:00"))
		}
	}
	return m
}

// adopt hands a rule to the dispatcher, or gives it back.
func (w *world) adopt(id int32, on bool) {
	w.t.Helper()
	change := w.store.Release
	if on {
		change = func(ctx context.Context, keys []rule.Key) ([]store.Switched, error) {
			return w.store.Adopt(ctx, keys, nil)
		}
	}
	done, err := change(w.t.Context(), []rule.Key{{Table: rule.Webhooks, ID: id}})
	if err != nil || len(done) != 1 || !done[0].Changed {
		w.t.Fatalf("switch rule %d: %+v, %v", id, done, err)
	}
}

// sent returns which of the events have come, by the ends of their ids.
func (r *receiver) sent(n int) string {
	var found []string
	for i := range n {
		for _, c := range r.all() {
			if strings.Contains(c.Body, fmt.Sprintf(`"id": "event-%d"`, i)) {
				found = append(found, fmt.Sprint(i))
			}
		}
	}
	return strings.Join(found, " ")
}

// An event emitted after an adoption is delivered, though the rules that this daemon has read say
// that the plugin sends it.
func TestAdoptionCountsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	id := w.rule(f.Event, rec.at(""), false)
	d := w.start(adoptedOnly)
	d.waitReady(http.StatusOK)
	now := time.Now()
	w.publish(f.emitted(0, "event-0", now)) // the plugin sends it
	w.waitCommitted(0, 1)

	w.adopt(id, true)
	w.publish(f.emitted(0, "event-1", time.Now()), f.emitted(0, "event-2", now.Add(-time.Hour))) // the plugin has sent the second
	w.waitCommitted(0, 3)

	w.adopt(id, false)
	w.adopt(id, true)
	edited := f.emitted(0, "event-4", now.Add(-48*time.Hour)) // what has this time is published only now
	edited.Time = time.Now()
	w.publish(f.emitted(0, "event-3", time.Now()), edited)
	w.waitCommitted(0, 5)
	if got := rec.sent(5); got != "1 3 4" {
		t.Errorf("events %s came, want 1 3 4", got)
	}
	for status, want := range map[string]string{"unmatched": "2", "matched": "3"} {
		if got := d.metric(`webhook_dispatcher_events_total{result="` + status + `"}`); got != want {
			t.Errorf("%s events are %s, want %s", got, status, want)
		}
	}
}

// The plugin may look for its rows a while after the event can be read here: what is adopted until
// then it has not sent.
func TestAdoptionBeforeThePluginLooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at("/kept"), false) // keeps the type contended
	d := w.start(adoptedOnly)
	d.waitReady(http.StatusOK)
	for n := range 30 {
		path := fmt.Sprintf("/%d", n)
		id := w.rule(f.Event, rec.at(path), false)
		w.publish(f.emitted(0, fmt.Sprintf("event-%d", n), time.Now()))
		published := time.Now()
		wait(t, "the fetch", func() (bool, string) {
			got := d.metric("webhook_dispatcher_bus_records_total")
			return got == fmt.Sprint(n+1), got
		})
		w.adopt(id, true)
		inTime := time.Since(published) < 900*time.Millisecond
		w.waitCommitted(0, int64(n+1))
		w.adopt(id, false)
		if !inTime {
			continue // this machine is busy with something else: the plugin may have looked before
		}
		for _, c := range rec.all() {
			if strings.HasPrefix(c.Path, path+"/") {
				return
			}
		}
		t.Fatal("neither of the two has sent the event")
	}
	t.Error("no adoption took less than a second")
}

// What was emitted while a rule was the dispatcher's is delivered after its release, too: what lay
// in Kafka, and what waits as a row.
func TestReleasedRuleSendsWhatWasItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(statuses(500, 200))
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	id := w.rule(f.Event, rec.at(""), false)
	w.adopt(id, true)
	w.publish(f.emitted(0, "event-0", time.Now()))
	w.adopt(id, false)
	// Nothing was running until now.
	w.publish(f.emitted(0, "event-1", time.Now().Add(-time.Hour)), f.emitted(0, "event-2", time.Now().Add(time.Hour)))
	w.start(adoptedOnly)
	w.waitRows(delivery.Delivered)
	w.waitCommitted(0, 3)
	if got := rec.sent(3); got != "0 0" {
		t.Errorf("events %q came, want 0 twice, the first time refused", got)
	}
}

// While the rules cannot be read, events wait that a row may have been adopted for: a failure is
// never read as no match. Others go on.
func TestContendedEventsWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	rec := w.receiver(nil)
	f, own := w.load("COURSE_ENROLLMENT_CREATED__readme"), w.load("STUDENT_REGISTRATION_COMPLETED__readme")
	id := w.rule(f.Event, rec.at(""), false)
	w.adopt(w.rule(own.Event, rec.at("/own"), false), true)
	d := w.start(adoptedOnly)
	w.publish(own.emitted(1, "event-0", time.Now()))
	rec.wait(t, 1)
	w.waitCommitted(1, 1)
	d.waitReady(http.StatusOK)
	w.gate.setShut(true)
	w.adopt(id, true) // by somebody who reaches the database
	w.publish(f.emitted(0, "event-1", time.Now()))
	d.waitReady(http.StatusServiceUnavailable, `"name": "rules"`, "events wait")
	w.publish(own.emitted(1, "event-2", time.Now()))
	rec.wait(t, 2)
	if got, at := rec.sent(3), w.committed(0); got != "0 2" || at > 0 {
		t.Errorf("events %s came, position %d; want 0 2, and the other to wait", got, at)
	}
	w.gate.setShut(false)
	rec.wait(t, 3)
	w.waitCommitted(0, 1)
	if got := rec.sent(3); got != "0 1 2" {
		t.Errorf("events %s came", got)
	}
}
