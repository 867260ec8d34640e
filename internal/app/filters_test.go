package app_test

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/config"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

// filter adds a webfilter row and returns its id.
func (w *world) filter(event, url string, flags rule.WebfilterFlags) int32 {
	w.t.Helper()
	row := rule.WebfilterRow{Row: rule.Row{Event: event, URL: url, Enabled: true}, WebfilterFlags: flags}
	id, err := w.store.AddWebfilter(w.t.Context(), row, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// redacts returns what a filter answers after a while: the event's data, replaced.
func redacts(after time.Duration) func(http.ResponseWriter, *http.Request, *call) {
	return func(rw http.ResponseWriter, _ *http.Request, _ *call) {
		<-time.After(after)
		_, _ = rw.Write([]byte(`{"data": {"openedx_events.learning.data.CourseEnrollmentData": "redacted"}}`))
	}
}

// waiting returns how many rows of a lane have not ended.
func (w *world) waitingIn(kind delivery.Kind, id int32) int {
	w.t.Helper()
	n, err := w.store.Waiting(w.t.Context(), delivery.Lane{Kind: kind, RuleID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// A burst is more than a filter takes at a time: the rest waits for its turn, and nothing goes out
// unfiltered.
func TestBurstOfFilteredEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec, filter := w.receiver(nil), w.receiver(redacts(100*time.Millisecond))
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	w.filter(f.Event, filter.at(""), rule.WebfilterFlags{HaltOnRequestException: true})
	const events = 300
	for i := range events {
		w.publish(f.message(0, numbered(i)))
	}
	d := w.start(nil)
	wait(t, "all deliveries", func() (bool, string) {
		lost := missing(events, numbered, rec)
		return len(lost) == 0, fmt.Sprint(len(lost), " missing")
	})
	for _, c := range rec.all() {
		if !strings.Contains(c.Body, `"redacted"`) {
			t.Fatalf("an event went past its filter: %s", c.Body)
		}
	}
	if busy := d.metric(`webhook_dispatcher_filter_calls_total{outcome="busy"}`); busy != "0" {
		t.Errorf("%s calls found the filter busy", busy)
	}
}

// A filter whose options cannot be used may be there to take something out: its events wait as rows
// in its own lane, and go on once it can be called. Other events do not wait.
func TestHeldFilterOnTheBus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec, other, filter := w.receiver(nil), w.receiver(nil), w.receiver(redacts(0))
	f, free := w.load("COURSE_ENROLLMENT_CREATED__readme"), w.load("CERTIFICATE_CREATED__full")
	w.rule(f.Event, rec.at(""), false)
	w.rule(free.Event, other.at(""), false)
	id := w.filter(f.Event, filter.at(""), rule.WebfilterFlags{})
	w.exec(`INSERT INTO webhook_dispatcher_rule_option (kind, rule_id, enabled, rule_created, url_sha256, options, updated_at)
  SELECT 2, id, 1, created, REPEAT('x', 32), '{"of a later version": 1}', UTC_TIMESTAMP(6)
  FROM openedx_webhooks_webfilter WHERE id = ?`, id)
	d := w.start(nil)
	w.publish(f.message(0, "one"), f.message(0, "two"), free.message(0, "three"))
	other.wait(t, 1)
	w.waitCommitted(0, 3)
	if n := w.waitingIn(delivery.KindEvent, id); n != 2 {
		t.Errorf("%d rows in the lane of the filter, want 2: %+v", n, w.rows())
	}
	for _, r := range w.rows() {
		if r.Reason != string(delivery.ReasonPaused) || r.State != int(delivery.Pending) {
			t.Errorf("the row is %+v", r)
		}
	}
	<-time.After(2500 * time.Millisecond) // the claimer has looked twice
	if n := len(rec.all()) + len(filter.all()); n != 0 || d.metric("webhook_dispatcher_rows_claimed_total") != "0" {
		t.Errorf("%d calls, %s rows claimed", n, d.metric("webhook_dispatcher_rows_claimed_total"))
	}
	w.exec("UPDATE webhook_dispatcher_rule_option SET options = '{}' WHERE kind = 2 AND rule_id = ?", id)
	for _, c := range rec.wait(t, 2) {
		if !strings.Contains(c.Body, `"redacted"`) {
			t.Errorf("an event went past its filter: %s", c.Body)
		}
	}
}

// The queue limit of a webhook rule holds for the deliveries of events that were rows while their
// filter was slow.
func TestQueueLimitOfFilteredEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	answers := make(chan struct{}) // each lets a call of the filter end
	answer := redacts(0)
	rec, filter := w.receiver(statuses(500)), w.receiver(func(rw http.ResponseWriter, r *http.Request, c *call) {
		select {
		case <-answers:
		case <-r.Context().Done():
		}
		answer(rw, r, c)
	})
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	id := w.rule(f.Event, rec.at(""), false)
	row := w.filter(f.Event, filter.at(""), rule.WebfilterFlags{})
	d := w.start(func(cfg *config.Config) {
		cfg.HandOffAfter, cfg.QueueLimitRuleRows, cfg.RetrySchedule = 100*time.Millisecond, 3, []time.Duration{time.Hour}
		cfg.FilterDeadline, cfg.Timeout = patience, patience
	})
	w.publish(f.message(0, "one"), f.message(0, "two"), f.message(0, "three"))
	w.waitCommitted(0, 3) // they are rows
	for range 3 {
		answers <- struct{}{}
	}
	wait(t, "the first three", func() (bool, string) {
		n := w.waitingIn(delivery.KindWebhook, id)
		return n == 3 && len(rec.all()) == 3, fmt.Sprint(n)
	})
	w.publish(f.message(0, "four"), f.message(0, "five"))
	w.waitCommitted(0, 5)
	close(answers)
	wait(t, "the others to go back", func() (bool, string) {
		n := d.metric("webhook_dispatcher_filtered_events_returned_total")
		return n == "2", n
	})
	if deliveries, events := w.waitingIn(delivery.KindWebhook, id), w.waitingIn(delivery.KindEvent, row); deliveries != 3 || events != 2 {
		t.Errorf("%d deliveries and %d events wait, want the 3 of the limit and 2", deliveries, events)
	}
	if n := d.metric(`webhook_dispatcher_rows_enqueued_total{reason="filtering"}`); n != "3" {
		t.Errorf("%s rows of filtered events counted", n)
	}
	w.exec("UPDATE webhook_dispatcher_delivery SET due_at = UTC_TIMESTAMP(3) WHERE kind = 1") // they are dead after their last try
	wait(t, "the end of all events", func() (bool, string) {
		n := w.waitingIn(delivery.KindEvent, row)
		return n == 0, fmt.Sprint(n)
	})
	if n := len(filter.all()); n > 8 {
		t.Errorf("the filter was asked %d times about 5 events", n)
	}
}

// What the log of attempts says of a halt names the event, and has no part of the filter's URL.
func TestHaltNamesTheEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec, filter := w.receiver(nil), w.receiver(statuses(403))
	f := w.load("COURSE_ENROLLMENT_CREATED__readme")
	w.rule(f.Event, rec.at(""), false)
	id := w.filter(f.Event, filter.at(""), rule.WebfilterFlags{HaltOn4xx: true})
	w.start(nil)
	w.publish(f.message(0, "my-event"))
	w.waitCommitted(0, 1)
	wait(t, "a line in the attempt log", func() (bool, string) { return len(w.attempts()) == 1, "" })
	said := query(w, "SELECT response FROM webhook_dispatcher_attempt",
		func(scan func(...any) error) (s string, err error) { return s, scan(&s) })
	if want := fmt.Sprintf("event my-event: webfilter %d answered 403 (halt_on_4xx)", id); said[0] != want {
		t.Errorf("the attempt log says %q, want %q", said[0], want)
	}
}

// A client that never ends its request to the filter endpoint does not take the time in which a
// stop waits for deliveries.
func TestStopWithAHangingClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	d := w.start(func(cfg *config.Config) {
		cfg.FilterListen, cfg.FilterTokens, cfg.FilterDeadline = "127.0.0.1:0", config.Secret("0123456789abcdef0123"), time.Second
	})
	d.waitReady(http.StatusOK)
	listens := `"component":"filters","address":"`
	address := regexp.MustCompile(listens + `([^"]+)"`).FindStringSubmatch(w.log.find(listens))
	if address == nil {
		t.Fatal("the log does not say where the filter endpoint listens")
	}
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address[1])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /filters/v1/CourseEnrollmentStarted HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0123456789abcdef0123\r\n"+
		"Content-Length: 100\r\nContent-Type: application/json\r\n\r\n{")
	<-time.After(200 * time.Millisecond)
	began := time.Now()
	d.end()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
}
