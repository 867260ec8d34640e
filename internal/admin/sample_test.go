package admin_test

import (
	"strings"
	"testing"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/payload"
	"github.com/openedx-webhooks/webhook-dispatcher/schema"
)

// Every event with a schema has a sample, with its datetimes spelled as the plugin spells them, the
// same each time; and its body can be read back.
func TestEveryEventHasASample(t *testing.T) {
	t.Parallel()
	catalogue, err := schema.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	a, err := admin.New(admin.Options{Catalogue: catalogue})
	if err != nil {
		t.Fatal(err)
	}
	samples := 0
	for _, signal := range catalogue.Signals() {
		if _, ok := catalogue.Avro(signal.Type); !ok {
			continue
		}
		samples++
		message, err := a.Sample(signal.Type)
		if err != nil {
			t.Errorf("%s: %v", signal.Constant, err)
			continue
		}
		body := string(message.Body(delivery.FormatJSON))
		if !strings.HasPrefix(body, `{"`+signal.Class+`": {`) {
			t.Errorf("%s: %s", signal.Constant, body)
		}
		want := 1 // the metadata's own
		for _, path := range signal.Datetimes {
			if _, ok := lookUp(message.Data.Item(0), strings.Split(path, ".")[1:]); ok {
				want++
			}
		}
		if n := strings.Count(body, "2026-01-02 03:04:05.678901+00:00"); n < want {
			t.Errorf("%s: %d datetimes, want %d: %s", signal.Constant, n, want, body)
		}
		again, err := a.ReadEvent([]byte(body), signal.Type)
		if err != nil {
			t.Errorf("%s: %v", signal.Constant, err)
			continue
		}
		if got := string(again.Body(delivery.FormatJSON)); got != body {
			t.Errorf("%s: reading it gives\n%s\nwant\n%s", signal.Constant, got, body)
		}
	}
	if samples < 70 {
		t.Errorf("only %d events have samples", samples)
	}
}

// lookUp follows a datetime's path.
func lookUp(v payload.Value, path []string) (payload.Value, bool) {
	for _, part := range path {
		var ok bool
		if part == "*" && v.Len() > 0 {
			v, ok = v.Item(0), true
		} else {
			v, ok = v.Get(part)
		}
		if !ok {
			return payload.Value{}, false
		}
	}
	return v, true
}
