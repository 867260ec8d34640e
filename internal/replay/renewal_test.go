package replay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/delivery"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/store"
)

// summary is the row of the delivery of event n, without a body.
func summary(n int, id delivery.ID) *store.Summary {
	s := &store.Summary{}
	s.ID, s.Kind, s.RuleID, s.EventType, s.EventID = id, delivery.KindWebhook, 1, registered, eventID(n)
	s.EventTime = began.Add(time.Duration(n) * time.Minute)
	return s
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	for _, apply := range []bool{false, true} {
		w := newWorld(t)
		corrupt := w.record(103)
		corrupt.Value = corrupt.Value[:8]
		nameless := setHeader(w.record(104), "ce_id", "")
		w.partition("a", 0, setHeader(w.record(100), "ce_type", enrolled), w.record(101), nameless)
		w.partition("b", 0, w.record(102), w.record(101), corrupt)
		a := w.replayer(apply, false).Renewal()
		copied := delivery.Row{Delivery: delivery.Delivery{
			ID: idOf(1), Kind: delivery.KindWebhook, RuleID: 9, EventType: "t", EventID: "i", EventTime: began, Format: delivery.FormatForm,
			Body: []byte("frozen"), Traceparent: "tp",
		}}
		if err := a.Copy(t.Context(), &copied); err != nil {
			t.Fatal(err)
		}
		a.Search(summary(101, idOf(101)), w.rule())
		a.Search(summary(102, delivery.ID{42}), w.rule()) // a row that has been made under a new id itself
		a.Search(summary(102, idOf(102)), w.rule())
		a.Search(summary(103, idOf(103)), w.rule())
		a.Search(summary(100, idOf(100)), w.rule())
		want(t, "searched", a.Searched(), 5)
		counted, failures, err := a.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want(t, "counts", counts(&counted), "4 0 0 0 0 0")
		want(t, "since", w.asked[0], began.Add(100*time.Minute-skew))
		why := map[delivery.ID]string{}
		for _, f := range failures {
			why[f.ID] = f.Why
		}
		want(t, "failures", fmt.Sprint(len(failures), len(why)), "2 2")
		want(t, "corrupt", why[idOf(103)], "its event cannot be read any more (corrupt)")
		want(t, "not there", why[idOf(100)], "its event is not in the topics (any more)")
		if !apply {
			want(t, "written", len(w.written), 0)
			continue
		}
		run := delivery.Run{1}
		for _, old := range []delivery.ID{idOf(1), idOf(101), {42}, idOf(102)} {
			if w.rows[delivery.Renew(old, run)] == nil {
				t.Errorf("%s has no new row", old)
			}
		}
		first := w.written[0]
		want(t, "copy", fmt.Sprintf("%s %s %d %s %s %d %s %s", first.State, first.Reason, first.RuleID, first.EventType, first.EventID,
			first.Format, first.Body, first.Traceparent), "pending replay 9 t i 2 frozen tp")
		if body := string(w.written[1].Body); !strings.Contains(body, eventID(101)) {
			t.Errorf("body %s", body)
		}
	}
}

// The search ends at the last event that it needs, and begins at the log's start where an event has
// no time.
func TestRenewalSearchesNoFurther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.partition("a", 0, w.record(1))
	w.readError = errors.New("read on")
	a := w.replayer(true, false).Renewal()
	a.Search(summary(5, idOf(5)), w.rule())
	untimed := summary(1, idOf(1))
	untimed.EventTime = time.Time{}
	a.Search(untimed, w.rule())
	if _, _, err := a.Finish(t.Context()); !errors.Is(err, w.readError) {
		t.Errorf("a search that could not go on: %v", err)
	}
	want(t, "since", w.asked[0].IsZero(), true)

	a = w.replayer(true, false).Renewal()
	a.Search(summary(1, idOf(1)), w.rule())
	if counted, failures, err := a.Finish(t.Context()); err != nil || len(failures) > 0 || counted.Inserted+counted.Waiting != 1 {
		t.Errorf("%+v %v %v", counted, failures, err)
	}

	a = w.replayer(true, false).Renewal()
	asked := len(w.asked)
	if _, _, err := a.Finish(t.Context()); err != nil || len(w.asked) != asked {
		t.Errorf("with nothing to search: %v, %d questions", err, len(w.asked)-asked)
	}
}
