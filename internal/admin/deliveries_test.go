package admin_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// Every face sends these requests, so what is wrong with one is a problem of the option that it
// names.
func TestListProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		selection admin.Selection
		limit     int
		fields    string
	}{
		"limit":    {admin.Selection{}, 0, "limit"},
		"too many": {admin.Selection{}, 10_001, "limit"},
		"order":    {admin.Selection{Since: admin.Moment{Ago: time.Hour}, Until: admin.Moment{Ago: 2 * time.Hour}}, 1, "since"},
		"event":    {admin.Selection{Event: "BADGE_AWARDE"}, 1, "event"},
		"two":      {admin.Selection{Event: "nope", Since: admin.Moment{At: now}, Until: admin.Moment{At: now}}, 1, "since event"},
	} {
		_, err := operations(t, admin.Options{Store: &rows{}}).Deliveries(t.Context(), c.selection, c.limit)
		var fields []string
		for _, p := range admin.Problems(err) {
			fields = append(fields, p.Field)
		}
		if got := strings.Join(fields, " "); got != c.fields {
			t.Errorf("%s: problems of %q, want %q: %v", name, got, c.fields, err)
		}
	}
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	st := &rows{}
	id := int32(7)
	a := operations(t, admin.Options{Store: st})
	s := admin.Selection{Rule: &id, Event: "badge_awarded", Since: admin.Moment{Ago: time.Hour}, States: []delivery.State{delivery.Dead}}
	list, err := a.Deliveries(t.Context(), s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(list.Deliveries); err != nil || string(text) != "[]" {
		t.Errorf("none as JSON: %s, %v", text, err)
	}
	if f := st.selected; f.Lane == nil || f.Lane.RuleID != 7 || f.EventType != "org.openedx.learning.badge.awarded.v1" ||
		!f.Since.Equal(now.Add(-time.Hour)) || !f.Until.IsZero() || len(f.States) != 1 {
		t.Errorf("selected by %+v", f)
	}
	st.all = append(st.all, summary(1, delivery.Dead, 2), summary(2, delivery.Pending, 2))
	list, err = a.Deliveries(t.Context(), admin.Selection{Event: "org.example.gone.v1"}, 1)
	if err != nil || len(list.Deliveries) != 1 || !list.More || !strings.Contains(list.Note, "has no event type org.example.gone.v1") {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	st := &rows{all: []store.Summary{summary(1, delivery.Dead, 2)}}
	a := operations(t, admin.Options{Store: st})
	detail, logged, err := a.Delivery(t.Context(), admin.DeliveryRef{Row: 1}, false)
	if err != nil || logged != nil || detail.ID != 1 || detail.Body != nil {
		t.Fatalf("got %+v, %+v, %v", detail, logged, err)
	}
	detail, _, err = a.Delivery(t.Context(), admin.DeliveryRef{Row: 1}, true)
	if err != nil || detail.Body == nil || *detail.Body != "b\uFFFD" {
		t.Errorf("with bodies: %+v, %v", detail, err)
	}
	for _, ref := range []admin.DeliveryRef{{Row: 9}, {ID: delivery.ID{9}}} {
		_, _, err = a.Delivery(t.Context(), ref, false)
		if _, missing := errors.AsType[*admin.NotFoundError](err); !missing {
			t.Errorf("%s: %v", ref, err)
		}
	}
	st.attempts = []delivery.Attempt{{Number: 1, RuleID: 7, Status: 204, Response: []byte("learner")}}
	detail, logged, err = a.Delivery(t.Context(), admin.DeliveryRef{ID: delivery.ID{9}}, false)
	if err != nil || detail != nil || logged.RuleID != 7 || len(logged.AttemptLog) != 1 || logged.AttemptLog[0].Response != nil {
		t.Errorf("of the log: %+v, %+v, %v", detail, logged, err)
	}
}

func TestUndecodableRecordNotFound(t *testing.T) {
	t.Parallel()
	_, err := operations(t, admin.Options{Store: &rows{}}).UndecodableRecord(t.Context(), 9, false)
	missing, ok := errors.AsType[*admin.NotFoundError](err)
	if !ok || missing.See != admin.SeeUndecodable || !strings.Contains(err.Error(), "undecodable record 9") {
		t.Errorf("got %v", err)
	}
}
