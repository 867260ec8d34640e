//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/schema"

	"github.com/openedx-webhooks/webhook-dispatcher/test/e2e/harness"
)

// notOnBus are the signals that the bus cannot carry, with reasons.
var notOnBus = map[string]string{
	"COURSE_CERTIFICATE_CONFIG_CHANGED": "a field is a file, for which Avro has no type",
	"COURSE_CERTIFICATE_CONFIG_DELETED": "a field is a file, for which Avro has no type",
	"SUBSIDY_REDEMPTION_REVERSED":       "registries refuse its schema: its namespace holds a hyphen",
}

// TestEveryEventHasThePluginsBytes sends every event that the real publisher can send, full, sparse
// and odd, to a rule for JSON and a rule for forms. Each body must equal what the plugin's own code
// makes of the event in the publisher's process.
func TestEveryEventHasThePluginsBytes(t *testing.T) {
	t.Parallel()
	s := harness.NewSite(t)
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{} // event types
	for _, signal := range catalogue.Signals() {
		if notOnBus[signal.Constant] != "" {
			continue
		}
		wanted[signal.Type] = true
		for i, hook := range []string{"json", "form"} {
			if _, err := s.DB.Exec(`INSERT INTO openedx_webhooks_webhook (created, modified, event, webhook_url, enabled, use_www_form_encoding)
  VALUES (UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), ?, ?, 1, ?)`, signal.Constant, s.URL(hook), i); err != nil {
				t.Fatal(err)
			}
		}
	}
	publisher := s.Publish("--all", "--bodies", "--create-topics", "3")
	d := s.Serve("WEBHOOK_DISPATCHER_TOPICS=*", harness.SlowHandOff)
	events := publisher.All()
	topics := map[string]bool{}
	for _, e := range events {
		delete(wanted, e.Type)
		topics[strings.TrimPrefix(e.Topic, s.Prefix+"-")] = true
	}
	if len(wanted) > 0 {
		t.Errorf("the publisher has not sent %v", slices.Collect(maps.Keys(wanted)))
	}
	for _, hook := range []string{"json", "form"} {
		harness.Eventually(t, time.Minute, hook, func() error {
			return harness.Want("number of events", len(s.Taken(hook)), len(events))
		})
	}
	for topic := range topics {
		s.Producer.WaitCommitted(10*time.Second, topic)
	}
	requests := map[string]harness.Received{}
	for _, hook := range []string{"json", "form"} {
		for _, request := range s.Got(hook) {
			requests[hook+" "+request.Event] = request
		}
	}
	sorted := 0
	for _, e := range events {
		for hook, body := range map[string]string{"json": e.JSON, "form": e.Form} {
			request := requests[hook+" "+e.ID]
			fault := checkRequest(hook, &request)
			if request.Body != body {
				sorted++
				fault = errors.Join(fault, sameButForMapOrder(hook, request.Body, body))
			}
			if fault != nil {
				t.Errorf("%s (%s), %s: %v", e.Type, e.Label, hook, fault)
			}
		}
	}
	if rows := s.Rows("TRUE"); rows > 0 {
		t.Errorf("%d rows were written though every request was answered with 200", rows)
	}
	harness.Figure(t, "%d events of %d topics, %d bodies, %d of them equal but for the order in a map; stopped in %s",
		len(events), len(topics), 2*len(events), sorted, d.Terminate())
}

// checkRequest checks everything of a request except its body.
func checkRequest(hook string, r *harness.Received) error {
	contentType := map[string]string{"json": "application/json", "form": "application/x-www-form-urlencoded"}[hook]
	var errs []error
	if r.Method != "POST" {
		errs = append(errs, fmt.Errorf("method is %q", r.Method))
	}
	for name, value := range map[string]string{"Content-Type": contentType, "Accept": "text/plain"} {
		if got := r.Header.Get(name); got != value {
			errs = append(errs, fmt.Errorf("%s is %q, want %q", name, got, value))
		}
	}
	if agent := r.Header.Get("User-Agent"); !strings.HasPrefix(agent, "webhook-dispatcher/") {
		errs = append(errs, fmt.Errorf("User-Agent is %q", agent))
	}
	if len(r.ID) != len("msg_")+32 || !strings.HasPrefix(r.ID, "msg_") || r.Header.Get("webhook-timestamp") == "" {
		errs = append(errs, fmt.Errorf("webhook-id is %q, webhook-timestamp %q", r.ID, r.Header.Get("webhook-timestamp")))
	}
	return errors.Join(errs...)
}

// sameButForMapOrder returns an error unless two bodies differ only in the order of keys. The
// publisher sorts the keys of maps, so the record has lost the order that the plugin uses.
func sameButForMapOrder(hook, got, wanted string) error {
	different := fmt.Errorf("body differs\n got: %s\nwant: %s", got, wanted)
	if hook == "form" {
		// A map in a list is one value in Python's spelling; its parts are compared as a set.
		parts := func(body string) []string {
			text, _ := url.QueryUnescape(body)
			list := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("&,{}[] ", r) })
			slices.Sort(list)
			return list
		}
		if len(got) == len(wanted) && slices.Equal(parts(got), parts(wanted)) {
			return nil
		}
		return different
	}
	var a, b any
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(wanted), &b) != nil || len(got) != len(wanted) {
		return different
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	if errX != nil || errY != nil || string(x) != string(y) {
		return different
	}
	return nil
}
