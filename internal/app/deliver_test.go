package app_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var webhookID = regexp.MustCompile(`^msg_[0-9a-f]{32}$`)

// The daemon's main job: a captured record becomes the request that the plugin would have made,
// with this daemon's headers, and its offset is committed.
func TestDeliversTheSameBytesAsThePlugin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	names := []string{
		"COURSE_ENROLLMENT_CREATED__readme", "COURSE_ENROLLMENT_CREATED__full", "STUDENT_REGISTRATION_COMPLETED__readme",
		"CERTIFICATE_CREATED__full", "XBLOCK_PUBLISHED__version", "COURSE_CATALOG_INFO_CHANGED__basic",
	}
	ruled := map[string]bool{}
	want := map[string]bool{} // content type and body
	for i, name := range names {
		f := w.load(name)
		id := "event-" + strconv.Itoa(i)
		if !ruled[f.Event] {
			ruled[f.Event] = true
			w.rule(f.Event, rec.at("/json"), false)
			w.rule(strings.ToLower(f.Event), rec.at("/form"), true) // the column is compared without regard to case
		}
		w.publish(f.message(0, id))
		want["application/json "+f.body(false, id)] = true
		want["application/x-www-form-urlencoded "+f.body(true, id)] = true
	}
	before := time.Now().Unix()
	d := w.start(nil)
	ids := map[string]bool{}
	for _, c := range rec.wait(t, 2*len(names)) {
		key := c.Header.Get("Content-Type") + " " + c.Body
		if !want[key] {
			t.Errorf("not expected, or twice: %s", key)
		}
		delete(want, key)
		form := strings.HasPrefix(c.Path, "/form/")
		if isForm := c.Header.Get("Content-Type") != "application/json"; isForm != form {
			t.Errorf("%s got %s", c.Path, c.Header.Get("Content-Type"))
		}
		if c.Path != "/json/"+canary && c.Path != "/form/"+canary {
			t.Errorf("path %q", c.Path)
		}
		if got := c.Header.Get("Accept"); got != "text/plain" {
			t.Errorf("Accept: %q", got)
		}
		if got := c.Header.Get("User-Agent"); got != "webhook-dispatcher/1.2.3" {
			t.Errorf("User-Agent: %q", got)
		}
		if !webhookID.MatchString(c.id()) || ids[c.id()] {
			t.Errorf("webhook-id %q is wrong or not the first", c.id())
		}
		ids[c.id()] = true
		if at, err := strconv.ParseInt(c.Header.Get("Webhook-Timestamp"), 10, 64); err != nil || at < before || at > time.Now().Unix() {
			t.Errorf("webhook-timestamp %q", c.Header.Get("Webhook-Timestamp"))
		}
	}
	if len(want) > 0 {
		t.Errorf("%d requests did not come", len(want))
	}
	w.waitCommitted(0, int64(len(names)))
	if rows, log := w.rows(), w.attempts(); len(rows)+len(log) > 0 {
		t.Errorf("the happy path wrote %v and %v", rows, log)
	}
	d.end()
	if at := w.committed(0); at != int64(len(names)) {
		t.Errorf("position %d after the end", at)
	}
}

// What the tables say is what happens: disabled and faulty rows do nothing, and harm no other;
// changes count within the refresh period.
func TestRulesOfTheTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	rec := w.receiver(nil)
	f, other := w.load("COURSE_ENROLLMENT_CREATED__readme"), w.load("STUDENT_REGISTRATION_COMPLETED__readme")
	w.rule(f.Event, rec.at("/on"), false)
	off := w.rule(f.Event, rec.at("/off"), false)
	w.exec("UPDATE openedx_webhooks_webhook SET enabled = 0 WHERE id = ?", off)
	w.rule(f.Event, "ftp://"+canary+"@127.0.0.1/"+canary, false)
	w.rule(f.Event, "http://[::1/"+canary, false)
	w.rule("NO_SUCH_EVENT", rec.at("/unknown"), false)
	d := w.start(nil)

	w.publish(f.message(0, "first"), other.message(0, "unwanted"))
	w.waitCommitted(0, 2)
	if calls := rec.all(); len(calls) != 1 || !strings.HasPrefix(calls[0].Path, "/on/") {
		t.Fatalf("calls: %v", calls)
	}
	if got := d.metric(`webhook_dispatcher_events_total{result="unmatched"}`); got != "1" {
		t.Errorf("%s events unmatched", got)
	}

	w.rule(other.Event, rec.at("/added"), false)
	w.exec("UPDATE openedx_webhooks_webhook SET enabled = 1, modified = NOW(6) WHERE id = ?", off)
	wait(t, "the refresh", func() (bool, string) {
		active := d.metric(`webhook_dispatcher_rules{status="active"}`)
		return active == "3", active
	})
	w.publish(f.message(0, "second"), other.message(0, "wanted"))
	w.waitCommitted(0, 4)
	got := map[string]int{}
	for _, c := range rec.all() {
		got[strings.Split(c.Path, "/")[1]]++
	}
	if len(got) != 3 || got["on"] != 2 || got["off"] != 1 || got["added"] != 1 {
		t.Errorf("calls: %v", got)
	}
}
